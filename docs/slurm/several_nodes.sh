#!/usr/bin/env bash
# Several nodes: one torchrun on each, which meet at the first; survives preemption as one_node.sh does.
#
#   sbatch docs/slurm/several_nodes.sh options/train_swinir_student_distill_best.json
#
# The task folder and path.cache lie on a file system that all nodes see and that has locks.
#
#SBATCH --job-name=student
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
set -euo pipefail
source .venv/bin/activate
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun --nnodes="$SLURM_NNODES" --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_backend=c10d --rdzv_id="$SLURM_JOB_ID" --rdzv_endpoint="$first:29500" \
    main_train_student.py --opt "$@" &
srun=$!
stopped=
trap 'stopped=1; kill -TERM $srun' TERM
wait $srun && exit 0 || code=$?
if [ -n "$stopped" ]; then
    wait $srun || true
    scontrol requeue "$SLURM_JOB_ID"  # the same command goes on from what is saved
    exit 0
fi
exit "$code"
