# make demo       install, make the demo scene, train, evaluate, render; repeated, it goes on where it stopped
# make test       install and run the fast tests          make test-all   with the slow ones
# make clean      remove the environment and caches; data/ and runs/ stay
# Variables: PYTHON=python3.12 (3.10 or newer), VENV=.venv, CONFIG=configs/balloon.txt, RUN=runs/balloon (its `out`)

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/balloon.txt
RUN ?= runs/balloon
BIN := $(VENV)/bin
QUANTITIES := rgb,semantic,overlay,depth,flow,dynamic

.PHONY: demo demo-steps install scene train evaluate render report test test-all clean

demo:
	@start=$$(date +%s); status=0; $(MAKE) --no-print-directory demo-steps || status=$$?; \
	seconds=$$(( $$(date +%s) - start )); \
	echo "make demo: $$((seconds / 60)) min $$((seconds % 60)) s in total"; exit $$status

demo-steps: report

install: $(VENV)/.installed

scene: install
	@[ -d data/balloon ] || $(BIN)/semflow make-scene

train: scene
	@$(BIN)/semflow train --config $(CONFIG)

evaluate: train
	@[ $(RUN)/eval/corrected/metrics.json -nt $(RUN)/finished.json ] || \
	$(BIN)/semflow evaluate --run $(RUN) --protocol corrected --save

render: evaluate
	@for path in novel fixed-view; do \
	  [ $(RUN)/renders/balloon_$$path/side_by_side.mp4 -nt $(RUN)/finished.json ] || \
	  $(BIN)/semflow render --run $(RUN) --path $$path --what $(QUANTITIES) --side-by-side --frames 24 || exit $$?; \
	done

report: render
	@echo; cat $(RUN)/eval/corrected/table.txt; echo; \
	echo "truth beside prediction   $(RUN)/eval/corrected/balloon/overview.png"; \
	echo "every time and camera     $(RUN)/eval/corrected/balloon/t000_c000_rgb.png, …_labels.png"; \
	echo "novel views, video        $(RUN)/renders/balloon_novel/side_by_side.mp4, semantic.mp4, …"; \
	echo "one camera, time runs     $(RUN)/renders/balloon_fixed-view/side_by_side.mp4, semantic.mp4, …"; \
	echo "training curves           $(BIN)/tensorboard --logdir $(RUN)/tensorboard"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m ""

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist semflow.egg-info .pytest_cache .ruff_cache
	find semflow tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
