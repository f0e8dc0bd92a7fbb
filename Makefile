VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python

.PHONY: test pretrain pretrain-eval

# Everything, from a bare machine: sets up .venv on the first run.
test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest tests

# Fetch the drawings, train models/siglip-mini-patch16-224, measure and describe it. Goes on where it was stopped.
pretrain: $(VENV)/ready
	$(RUN) -m utils.pretrain

# Measure the model that lies in models/.
pretrain-eval: $(VENV)/ready
	$(RUN) -m utils.pretrain --eval

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@
