PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: lab mine test test-all test-training test-export test-browser test-versions test-processors site notebooks progress figures download parity bench
.PHONY: pretrain pretrain-vlm pretrain-eval pictures own students instructors box slides FORCE

# Open the notebooks. The first run sets up .venv. In a container: make lab ARGS="--ip=0.0.0.0"
lab:
	$(PYTHON) utils/start.py lab $(ARGS)

# The same with your own copies, in my-notebooks/. Again after `git pull`: updates what you have not changed, and only that.
mine:
	$(PYTHON) utils/start.py mine $(ARGS)

# What a change must pass, from a bare machine: style, unit tests, every output of every notebook. Minutes.
test:
	$(PYTHON) utils/start.py test

# That, and what takes longer: other checkpoints, all shapes, a hub that stalls, two processes.
test-all:
	$(PYTHON) utils/start.py test-all

# The trainings of notebooks 08, 11 and 13, each with three other seeds; each cell twice on the bundled models. Half an hour.
test-training: .venv/ready
	$(RUN) -m pytest -m training tests

# LoRA against peft's, and the tuned tower in ONNX: installs what tests/requirements-export.txt names.
test-export: .venv/ready
	$(RUN) -m pip install --quiet -r tests/requirements-export.txt
	$(RUN) -m pytest -m export tests/test_own.py

# Every notebook in JupyterLab, and the site, in a real browser: needs Chromium and its driver; some minutes.
test-browser: .venv/ready
	$(RUN) -m pip install --quiet -r site/requirements.txt
	$(RUN) -m pytest -m browser tests/test_browser.py tests/test_site.py

# The series as pages that need no server: open build/site/index.html.
site: .venv/ready
	$(RUN) -m pip install --quiet -r site/requirements.txt
	$(RUN) -m sphinx -q -W --keep-going -c site . build/site

# All notebooks as other processors compute them, and on other numbers of threads: half an hour.
test-processors: .venv/ready
	$(RUN) -m tests.processors

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
notebooks: .venv/ready
	$(RUN) -m utils.notebooks

# The series without solutions, in build/students; to keep the outputs: make students OUTPUTS=--outputs
students: .venv/ready
	$(RUN) -m utils.editions students $(OUTPUTS)

# With open solutions and notes for the instructor, in build/instructors; and INSTRUCTORS.md's run sheets anew.
instructors: .venv/ready
	$(RUN) -m utils.sheets
	$(RUN) -m utils.editions instructors

# The series with all its packages, for a room without a network: build/box, and a zip. BOX="linux mac windows"
box: site
	BOX="$(BOX)" PYTHONS="$(PYTHONS)" $(RUN) -m utils.box

# Headings, bets and pictures of each notebook as a deck for the projector: build/slides. Needs no network to be shown.
slides: .venv/ready
	$(RUN) -m pip install --quiet --no-deps sphinx-revealjs==3.2.1
	$(RUN) -m utils.slides

# Which exercises are solved, from the saved notebooks; of a class: make progress FOLDERS="learners/*"
progress: .venv/ready
	@$(RUN) -m utils.progress $(FOLDERS)

# Draw readme_imgs/ again.
figures: .venv/ready
	$(RUN) -m utils.diagrams

# Fetch a checkpoint in advance, once: make download CHECKPOINT=google/siglip-base-patch16-224
download: .venv/ready
	$(RUN) -m utils.hub $(CHECKPOINT)

# The hand-built model next to transformers, stage by stage: make parity CHECKPOINT=google/siglip-base-patch16-224
parity: .venv/ready
	$(RUN) -m utils.parity $(CHECKPOINT)

# Time and memory of the hand-built tower at base size, next to transformers'; seconds and memory of each notebook. Minutes.
bench: .venv/ready
	$(RUN) -m utils.bench

# Fetch the drawings, train models/siglip-mini-patch16-224, measure and describe it. Goes on where it was stopped.
pretrain: .venv/ready
	$(RUN) -m utils.pretrain

# Train models/paligemma-mini-224 on the tower of that one, measure and describe it. Goes on where it was stopped.
pretrain-vlm: .venv/ready
	$(RUN) -m utils.pretrain --vlm

# Draw pictures/ again, the twenty new things of notebook 13. Then measure that notebook's curves: half an hour.
pictures: .venv/ready
	$(RUN) -m utils.pretrain.own

own: .venv/ready
	$(RUN) -m utils.own_record

# Measure both models that lie in models/.
pretrain-eval: .venv/ready
	$(RUN) -m utils.pretrain --eval

# Whether .venv is whole cannot be told from its date alone.
.venv/ready: FORCE
	@$(PYTHON) utils/start.py setup
