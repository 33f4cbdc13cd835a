# `make train` and `make test` do all the set-up themselves; everything lives in .venv

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALL := -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt
# The classic control tasks draw on no screen
export SDL_VIDEODRIVER ?= dummy

.PHONY: train test lint format docs wheel check-wheel demos benchmarks clean

train: $(VENV)/.installed  ## Train DDPGfD on Pendulum-v1 and draw the run
	$(PYTHON) -m sb3_pgfd.train --algo ddpgfd --env Pendulum-v1 --eval-freq 500 --eval-episodes 20 --log-interval 1 \
		--num-threads 1 --seed 0

test: $(VENV)/.installed  ## Run the tests on all cores
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile

lint: $(VENV)/.installed
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

format: $(VENV)/.installed
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# Notebooks are run by it, each once until it changes: as many processes as let them run side by side. Nothing is fetched
docs: $(VENV)/.installed  ## Build the site in build/docs; a warning is an error
	$(PYTHON) -m sphinx -W --keep-going -q -j 40 docs build/docs

# The source archive, and the wheel that is made of it, as they would be published. The wheel is installed into a fresh
# virtual environment, first bare: it must find its own hyperparameters and demonstrations.
# Then with the extras that the commands need and nothing else: `check-wheel` runs every command there.
# What builds it has an environment of its own, so that `make -j` does all this while it fills .venv
WHEEL := build/wheel
WHEEL_PYTHON := $(WHEEL)/venv/bin/python
wheel:
	rm -rf $(WHEEL)
	python3 -m venv $(WHEEL)/tools
	$(WHEEL)/tools/bin/python $(INSTALL) build twine
	$(WHEEL)/tools/bin/python -m build --outdir $(WHEEL) .
	$(WHEEL)/tools/bin/python -m twine check --strict $(WHEEL)/*.whl $(WHEEL)/*.tar.gz
	python3 -m venv $(WHEEL)/venv
	$(WHEEL_PYTHON) $(INSTALL) torch
	$(WHEEL_PYTHON) $(INSTALL) $(WHEEL)/*.whl
	cd $(WHEEL) && venv/bin/python ../../tests/check_wheel.py
	$(WHEEL_PYTHON) $(INSTALL) "$$(ls $(WHEEL)/*.whl)[zoo,classic,box2d,robotics]"

# Tests start commands with the interpreter that SB3_PGFD_PYTHON names
check-wheel: wheel $(VENV)/.installed
	SB3_PGFD_PYTHON=$(CURDIR)/$(WHEEL_PYTHON) OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile tests/commands \
		tests/cli/test_cli_compare.py tests/zoo/test_search_workers.py

demos: $(VENV)/.installed  ## Make the packaged demonstrations again
	$(PYTHON) -m demos.make_demos

benchmarks: $(VENV)/.installed  ## Learning and speed; benchmarks/README.md has the rest
	$(PYTHON) -m benchmarks.update_speed
	$(PYTHON) -m benchmarks.replay_speed
	$(PYTHON) -m benchmarks.reading_speed
	$(PYTHON) -m benchmarks.pendulum --processes 2
	$(PYTHON) -m benchmarks.mountain_car --processes 2
	$(PYTHON) -m benchmarks.a2c_speed
	$(PYTHON) -m benchmarks.a2c --processes 2
	$(PYTHON) -m benchmarks.tasks --processes 2
	$(PYTHON) -m benchmarks.tuning --processes 2
	$(PYTHON) -m benchmarks.sac_entropy
	$(PYTHON) -m benchmarks.interventions --processes 2
	$(PYTHON) -m benchmarks.control_rate
	$(PYTHON) -m benchmarks.sparse_suite.grid --processes 2 --compile
	$(PYTHON) -m benchmarks.sparse_suite.report --readme docs/benchmarks.md

clean:
	rm -rf $(VENV) build dist logs .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch first and by itself: its exact version keeps pip from fetching another build
$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) $(INSTALL) torch
	$(PYTHON) $(INSTALL) -e .[all,tests,docs]
	touch $@
