# `make train` and `make test` do all the set-up themselves; everything lives in .venv

VENV := .venv
PYTHON := $(VENV)/bin/python
# The classic control tasks draw on no screen
export SDL_VIDEODRIVER ?= dummy

.PHONY: train test lint format wheel check-wheel demos benchmarks clean

train: $(VENV)/.installed  ## Train DDPGfD on Pendulum-v1 and draw the run
	$(PYTHON) -m sb3_pgfd.train --algo ddpgfd --env Pendulum-v1 --eval-freq 500 --eval-episodes 20 --log-interval 1 \
		--num-threads 1 --seed 0

test: $(VENV)/.installed  ## Run the tests on all cores
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile

lint: $(VENV)/.installed
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(VENV)/.installed
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# Built and imported from a fresh virtual environment: it must find its own hyperparameters and demonstrations
check-wheel: $(VENV)/.installed
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m build --wheel --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet -c constraints.txt torch
	build/wheel/venv/bin/python -m pip install --quiet -c constraints.txt build/wheel/*.whl
	cd build/wheel && venv/bin/python ../../tests/check_wheel.py

demos: $(VENV)/.installed  ## Make the packaged demonstrations again
	$(PYTHON) demos/make_demos.py

benchmarks: $(VENV)/.installed  ## Everything the README's tables show
	$(PYTHON) benchmarks/update_speed.py
	$(PYTHON) benchmarks/sum_tree_speed.py
	$(PYTHON) benchmarks/reading_speed.py
	$(PYTHON) benchmarks/pendulum.py --processes 2
	$(PYTHON) benchmarks/mountain_car.py --processes 2
	$(PYTHON) benchmarks/a2c_speed.py
	$(PYTHON) benchmarks/a2c.py --processes 2

clean:
	rm -rf $(VENV) build dist logs .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch first and by itself: its exact version keeps pip from fetching another build
$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet -c constraints.txt torch
	$(PYTHON) -m pip install --quiet -c constraints.txt -e .[all,tests]
	touch $@
