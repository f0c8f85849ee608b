# mod_wsgi_rs. `make help` lists the targets. For each target, scripts/setup installs missing packages, and says which and
# why. Then `cargo xtask` (xtask/) or a short script in scripts/ does the work. All of them can be run by hand.
#
# PYTHON=/usr/bin/python3.11  build for this Python only          DESTDIR=/tmp/stage   install below this folder
# PORT=8080, MPM=prefork      for serve                           PREFIX=/usr/local    the folder for bin/wsgictl

.DEFAULT_GOAL := help
.PHONY: help build install uninstall test test-in models races mutants serve lint bench clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

build: ## Build the module, wsgictl, and an engine for every Python found, into target/release
	@scripts/setup build
	@scripts/xtask build

install: ## Install the build into httpd's folder of modules
	@scripts/install

uninstall: ## Remove the files of install
	@scripts/install --remove

test: ## Install what tests need, and run all of them; make test ARGS=streaming selects tests of real servers by name
	@scripts/setup tests
	@scripts/xtask build
	@scripts/xtask test $(ARGS)

test-in: ## Build and test in another suite of Debian, as root: make test-in SUITE=trixie (or forky, ...)
	@scripts/test-in $(SUITE) $(ARGS)

models: ## Run steps on data that threads share in every order (loom); ARGS=all: also the models of the metrics
	@scripts/setup build
	@scripts/models $(ARGS)

races: ## Run the threads of admission and of the wire under ThreadSanitizer; ARGS=python: also the tests of the engine
	@scripts/setup build
	@scripts/races $(ARGS)

mutants: ## Break rules of the metrics in a copy of the module, and check that the tests notice
	@scripts/setup tests
	@scripts/xtask build
	@scripts/xtask mutants

serve: ## Build, and serve the bundled Django example on http://127.0.0.1:8000
	@scripts/setup serve
	@scripts/xtask build
	@exec scripts/xtask serve

lint: ## Check format, clippy, documentation, and the layout, names, sentences and citations of the sources
	@scripts/setup build
	@scripts/xtask lint

bench: ## Measure side by side with mod_wsgi
	@scripts/setup bench
	@scripts/xtask build
	@scripts/xtask bench

clean: ## Remove everything that was built
	cargo clean
