#!/usr/bin/env bash
# One node, all of its GPUs; survives preemption and time limits: the job asks for its own restart.
#
#   sbatch docs/slurm/one_node.sh options/train_swinir_student_distill_best.json
#
#SBATCH --job-name=student
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
set -euo pipefail
source .venv/bin/activate

# torchrun hands SIGTERM on; each process saves its iteration within torchrun's 30 seconds.
torchrun --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}" main_train_student.py --opt "$@" &
torchrun=$!
stopped=
trap 'stopped=1; kill -TERM $torchrun' TERM
wait $torchrun && exit 0 || code=$?
if [ -n "$stopped" ]; then
    wait $torchrun || true
    scontrol requeue "$SLURM_JOB_ID"  # the same command goes on from what is saved
    exit 0
fi
exit "$code"
