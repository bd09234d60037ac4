# People, CI and the README all call these.
PYTHON ?= python3
BIN := .venv/bin
# Processes of the tests, each with one thread.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --dist=loadfile --numprocesses
DEMO_TASKS := demo_A_alone demo_B_response demo_C_feature

.PHONY: demo test quick soak lint clean-demo

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

# Three toy students, one alone and two from a teacher, compared.
demo: .venv/installed clean-demo
	@echo "This demo shows the machinery at toy scale, not results: a few minutes of training on eight images."
	$(BIN)/python -m data.demo_images
	$(BIN)/python main_train_student.py --opt options/demo/train_swinir_student.json \
	    options/demo/train_swinir_student_distill_response.json options/demo/train_swinir_student_distill_feature.json
	$(BIN)/python -m utils.report $(addprefix superresolution/,$(DEMO_TASKS)) --out report/demo
	@echo "For comparison, the student of model_zoo, trained for longer, on the same three test images:"
	$(BIN)/python main_test_swinir.py --folder_gt testsets/demo/HR \
	    --model_path model_zoo/swinir_student_x4/swinir_student_x4.safetensors

clean-demo:
	rm -rf $(addprefix superresolution/,$(DEMO_TASKS)) report/demo trainsets/demo testsets/demo

# Everything, in minutes; it ends with the ten slowest.
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
