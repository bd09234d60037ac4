# People, CI and the README all call these.
PYTHON ?= python3
BIN := .venv/bin
# Processes of the tests, each with one thread: one more than cores, since tests also wait.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --dist=loadfile --no-loadscope-reorder --numprocesses
DEMO_TASKS := demo_A_alone demo_B_response demo_C_feature
DEMO := options/demo/train_swinir_student
TRAIN_DEMO := $(BIN)/python main_train_student.py --opt $(DEMO).json $(DEMO)_distill_response.json $(DEMO)_distill_feature.json
STUDENT := model_zoo/swinir_student_x4/swinir_student_x4.safetensors

.PHONY: demo test quick soak lint figures clean-demo

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

# Three students go on from that of model_zoo, one alone and two with a teacher; they are stopped once, and go on.
demo: .venv/installed clean-demo
	@$(BIN)/python -m data.demo_images
	@echo "A, B and C, 40 iterations each; after 30 seconds SIGTERM stops them, and the same command goes on."
	@timeout --preserve-status --signal=TERM 30 $(TRAIN_DEMO) > /dev/null
	@$(TRAIN_DEMO) > /dev/null
	@$(BIN)/python -m utils.report $(addprefix superresolution/,$(DEMO_TASKS)) --out report/demo > /dev/null
	@awk '/^[|]/ {table = 1} table && !/^[|]/ {exit} {print}' report/demo/table.md
	@echo "All tables, curves and crops: report/demo/index.html. To restore images of your own:"
	@echo "$(BIN)/python main_test_swinir.py --model_path $(STUDENT) --folder_lq FOLDER"

# The README's picture: A, B and C of the study at equal time and their teacher, in one image of Set14. What the three
# tasks need is in their option files; with the start and the teacher's answers, they take four hours of a core.
SET14 := --folder_gt testsets/Set14/HR --folder_lq testsets/Set14/LR_bicubic/X4
DAT := model_zoo_DAT_light_x4_classical_sr_x4
PICTURED := A:time_A_seed0 B:time_B_seed0 C:time_C_seed0 teacher:$(DAT) $(foreach name,where bicubic ground_truth,$(name):$(name))
figures: .venv/installed
	for name in A B C; do $(BIN)/python main_train_student.py --opt options/study/equal_time/$$name.json --seeds 0; done
	$(BIN)/python main_test_swinir.py --model_path model_zoo/DAT_light_x4.pth $(SET14)
	$(BIN)/python -m utils.report superresolution/study/time_[ABC]_seed0 results/$(DAT) --out report/figures
	@for pair in $(PICTURED); do cp report/figures/figures/Set14_img_011_$${pair#*:}.png docs/figures/$${pair%%:*}.png; done

clean-demo:
	rm -rf $(addprefix superresolution/,$(DEMO_TASKS)) report/demo trainsets/demo testsets/demo

# Everything, in minutes; it ends with the ten slowest. In the order of the files: the longest of them is not the last.
test: lint
	$(PYTEST) $(WORKERS) --durations=10

# What does not take long, for the moment before a commit.
quick: .venv/installed-dev
	$(PYTEST) $(WORKERS) -m "not slow"

# Faults by the hundred, up to an hour.
soak: .venv/installed-dev
	$(BIN)/python -m tests.soak

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
