VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python

.PHONY: lab test test-training test-browser test-versions notebooks figures download parity bench pretrain pretrain-vlm pretrain-eval

# Open the notebooks; from here, so that the pictures in readme_imgs/ are found. The first run sets up .venv.
lab: $(VENV)/ready
	$(RUN) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks

# Everything, from a bare machine: style, unit tests, and every output of every notebook compared with the stored one.
test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -m "not training and not browser" tests
	$(RUN) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-kernel-startup-timeout=120 notebooks

# The trainings of notebooks 08 and 10, each with three other seeds: some minutes more.
test-training: $(VENV)/ready
	$(RUN) -m pytest -m training tests

# Every notebook in JupyterLab, in a real browser: needs Chromium and its driver; some minutes.
test-browser: $(VENV)/ready
	$(RUN) -m pip install --quiet selenium
	$(RUN) -m pytest -m browser tests/test_browser.py

# The hand-built model next to transformers of other versions, each in its own environment.
test-versions:
	for version in 5.6.0 $$(sed -n "s/^transformers==//p" requirements.txt); do \
		python=build/versions/$$version/bin/python; \
		$(PYTHON) -m venv build/versions/$$version && \
		sed "s/^transformers==.*/transformers==$$version/" requirements.txt > build/versions/$$version/requirements.txt && \
		$$python -m pip install --quiet -r build/versions/$$version/requirements.txt && \
		echo "transformers $$version" && $$python -m utils.parity && \
		$$python -m pytest --quiet -p no:cacheprovider tests/test_blocks.py || exit 1; \
	done

# Run every notebook again and store its outputs; twice in a row changes nothing.
notebooks: $(VENV)/ready
	$(RUN) -m utils.notebooks

# Draw readme_imgs/ again.
figures: $(VENV)/ready
	$(RUN) -m utils.diagrams

# Fetch a checkpoint in advance, once: make download CHECKPOINT=google/siglip-base-patch16-224
download: $(VENV)/ready
	$(RUN) -m utils.hub $(CHECKPOINT)

# The hand-built model next to transformers, stage by stage: make parity CHECKPOINT=google/siglip-base-patch16-224
parity: $(VENV)/ready
	$(RUN) -m utils.parity $(CHECKPOINT)

# Time and memory of the hand-built tower at base size, next to transformers'; seconds of each notebook. Minutes.
bench: $(VENV)/ready
	$(RUN) -m utils.bench

# Fetch the drawings, train models/siglip-mini-patch16-224, measure and describe it. Goes on where it was stopped.
pretrain: $(VENV)/ready
	$(RUN) -m utils.pretrain

# Train models/paligemma-mini-224 on the tower of that one, measure and describe it. Goes on where it was stopped.
pretrain-vlm: $(VENV)/ready
	$(RUN) -m utils.pretrain --vlm

# Measure both models that lie in models/.
pretrain-eval: $(VENV)/ready
	$(RUN) -m utils.pretrain --eval

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@
