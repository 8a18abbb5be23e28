# Sealbus: one target for each thing that CI runs. `make help` lists them.

SECTORS ?= 1
SLOTS ?= 1
KEEP ?=
# For the soak. It takes its number of sectors from SECTORS too, if that is given on the command line.
WORKERS ?= 200
SOAK_SECTORS = $(if $(filter file,$(origin SECTORS)),5000,$(SECTORS))
SEED ?=
MINUTES ?= 60
# How many worlds are simulated, and the seed of the first.
SEEDS ?= 8000
FROM ?= 0
# For `make nightly`: each commit simulates different worlds, and one commit always the same ones.
FROM_COMMIT = $(shell printf '%d' "0x$$(git rev-parse --short=7 HEAD 2>/dev/null)" 2>/dev/null || echo 0)
# Groth16 parameters and the parent cache for 2 KiB sectors: made once per machine, shared by all checkouts.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sealbus
export SEALBUS_PARAMS ?= $(CACHE)/devnet-params
export SEALBUS_PARENTS ?= $(CACHE)/parents
export FIL_PROOFS_PARAMETER_CACHE = $(SEALBUS_PARAMS)
export FIL_PROOFS_PARENT_CACHE = $(SEALBUS_PARENTS)

# Everything is built with the same features, whatever is asked for: the proofs crates are compiled once.
CARGO_ALL = --workspace --all-targets --features toy-workflow
QUICK_TESTS = --lib --test store --test fold --test commands --test orders --test lease --test heartbeats --test documentation \
	--test devnet_rules --test devnet_mempool --test lease_model --test simulation
# Benchmarks optimise our own crates too.
OPTIMISED = $(foreach crate,schema nats manager worker integration-tests,--config profile.dev.package.sealbus-$(crate).opt-level=1)
# Takes the arguments of `cargo test`. Tests of different binaries overlap, and the ten slowest are listed at the end.
NEXTEST = bash integration-tests/setup/nextest.sh

.DEFAULT_GOAL := help
.PHONY: help units rules alerts tools build params demo fmt lint quick-test check deny sim test proving nightly foreign crash-matrix soak bench nats-cli clean-demo release deb deb-test ansible-lint ansible-test ansible-test-short

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## Install what is missing: Debian packages, nats-server
	@bash integration-tests/setup/tools.sh

nats-cli: ## Install the stock `nats` command line into .tools/bin
	@bash integration-tests/setup/nats-cli.sh

build: tools ## Build all programs and tests
	cargo build --workspace --bins --examples --tests --features toy-workflow

params: build ## Make the 2 KiB parameters, if the cache lacks them
	target/debug/sealbus-devnet-params --sector-size 2KiB --out $(SEALBUS_PARAMS)

demo: ## Seal and prove real sectors here and now (SECTORS=1 SLOTS=1 KEEP=)
	@bash integration-tests/setup/demo.sh --sectors $(SECTORS) --slots $(SLOTS) $(if $(KEEP),--keep)

fmt: ## Format the code
	cargo fmt --all

lint: tools ansible-lint units rules ## Check the format; clippy, warnings denied; the playbook; the units; the alarms
	cargo fmt --all --check
	cargo clippy $(CARGO_ALL) -- -D warnings

quick-test: tools ## Tests that need no proofs
	$(NEXTEST) --workspace $(QUICK_TESTS)

check: lint quick-test ## Run before each commit

deny: ## Audit the dependencies: licences, sources, bans (and advisories where the database is reachable)
	@bash integration-tests/setup/deny.sh

sim: build ## Simulate worlds in which everything goes wrong (SEEDS=8000 FROM=0)
	target/debug/sealbus-sim --seeds $(SEEDS) --from $(FROM)

test: lint deny nats-cli params ## Everything that CI runs
	$(NEXTEST) --workspace
	@# The hosts mostly wait, so worlds are simulated meanwhile.
	$(MAKE) --jobs=2 --output-sync=target ansible-test-short sim

proving: export SEALBUS_SEED = $(SEED)
proving: params ## Prove sectors by window PoSt and make blocks: with real proofs, and for five periods while everything is killed (SEED=)
	$(NEXTEST) --workspace --test proving --test proving_soak --test mining --ignore-default-filter

nightly: export SEALBUS_REAL_PROOFS = yes
nightly: export SEALBUS_ALL_CASES = yes
nightly: export NEXTEST_PROFILE = nightly
nightly: ## What CI has no time for: every proof real, a million worlds, the full soak
	$(MAKE) test proving alerts soak SEEDS=1000000 FROM=$(FROM_COMMIT)

foreign: params ## Seal a sector with the stages of the published crate vc-processors (needs rustup and Debian's ocl-icd-opencl-dev; minutes to build)
	@# From within: rustup chooses the toolchain by the directory.
	cd integration-tests/foreign/vc-processors && cargo build --locked --target-dir $(CACHE)/foreign
	SEALBUS_VC_PROCESSORS=$(CACHE)/foreign/debug/sealbus-foreign-vc-processors cargo test --workspace --test foreign_processors

crash-matrix: build ## Kill every process before, inside and after every phase
	$(NEXTEST) --workspace --test crash_matrix --no-capture

soak: build ## Kill at random until all sectors are active (WORKERS=200 SECTORS=5000 SEED= MINUTES=60)
	@target/debug/sealbus-soak --workers $(WORKERS) --sectors $(SOAK_SECTORS) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Up to a million sectors take half an hour.
bench: export SEALBUS_SCALE ?= 10000
bench: params ## Run the benchmarks; each compares with a baseline of the same run (SEALBUS_SCALE=10000)
	cargo bench --workspace --profile dev $(OPTIMISED) --bench params --bench fold --bench processors --bench static_tree_d --bench latency --bench scale --bench aggregate --bench proving --bench slow_reads

rules: ## Check the alarms, and test that each fires and ends
	bash integration-tests/setup/prometheus.sh
	.tools/bin/promtool check rules monitoring/alerts.yml
	.tools/bin/promtool check config monitoring/prometheus.yml
	.tools/bin/promtool test rules monitoring/alerts.test.yml

alerts: build rules ## Cause trouble of many kinds, and wait until a real Prometheus has raised and ended each alarm (some 5 minutes)
	$(NEXTEST) --workspace --test alarms --ignore-default-filter

units: ## Rate the rights of the systemd units, and fail if they have too many
	bash integration-tests/setup/units.sh

release: tools ## Build the programs as they are installed, into target/release, with bills of materials and checksums
	bash packaging/release.sh

deb: release ## Pack the programs as Debian packages, into target/deb
	bash packaging/deb.sh

deb-test: ## Install, upgrade, remove and purge the packages of `make deb` (needs root and namespaces; RELEASES="bookworm trixie")
	bash integration-tests/deploy/test.sh packages

ansible-lint: ## Check the playbook
	bash integration-tests/setup/ansible.sh
	cd ansible && PYTHONPATH=$(CACHE)/ansible PATH=$(CACHE)/ansible/bin:$$PATH ansible-lint --offline

ansible-test: params ## Run the playbook on Debian hosts, to a proven sector, with planted failures, and through a cluster's life (needs root and namespaces)
	for form in playbook playbook-upgrade playbook-three playbook-managers playbook-sites; do \
		bash integration-tests/deploy/test.sh $$form || exit 1; \
	done

ansible-test-short: params ## The same in a few minutes, with fewer failures, for CI
	bash integration-tests/deploy/test.sh playbook-short

clean-demo: ## Remove the demo's files
	rm -rf .demo
