# The front door. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak images setup clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, push an image, start it cold both ways, print a table
	scripts/setup.sh build images demo
	scripts/demo.sh

test: ## Install what is missing and run every test, those that need root, FUSE and mounts included
	scripts/setup.sh build test
	scripts/test.sh

check: ## Formatting, lints, dependency rules, crate order, shell scripts
	scripts/setup.sh build check
	scripts/check.sh

bench: ## Cold and warm starts on a shaped network, beside containerd (BENCH_IMAGES, BENCH_RUNS)
	scripts/setup.sh build images bench
	scripts/bench.sh

soak: ## Kill the node worker again and again while containers start (SOAK_MINUTES, default 10)
	scripts/setup.sh build images demo
	scripts/soak.sh

images: ## Build the example images small, mid and ml into build/images (IMAGES="small mid" for less)
	scripts/setup.sh images
	scripts/make-images.sh $(IMAGES)

setup: ## Install everything that any target needs
	scripts/setup.sh build images demo test check bench

clean: ## Remove what was built: target and build
	rm -rf target build
