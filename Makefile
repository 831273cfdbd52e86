# The two commands of a fresh machine are `make demo` and `make test`; `make help` lists the others.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo demo-purge system test test-containers test-dynamodb-local test-cloudformation bench bench-store bench-peers bench-contention bench-consumer bench-rebuild lint infra-lint terraform promises public-api up down

# One set of features everywhere: with another one Cargo builds the AWS SDK a second time.
WORKSPACE := --workspace --all-features

# An event log for the demo: NDJSON, plain or gzipped.
FILE ?= localstack/orders.ndjson
# dev or release.
PROFILE ?= dev
export STREAMBOX_PROFILE := $(PROFILE)

help: ## Show the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

DEMO := localstack/run cargo run --quiet --all-features --profile $(PROFILE) --bin streambox-demo --

demo: ## Import an event log, relay it to RabbitMQ, consume it, compare [FILE=path.ndjson.gz] [PROFILE=release]
	@$(DEMO) "$(FILE)"

demo-purge: ## The demo with a purge of the queue in the middle: what was lost is found and healed [FILE=path.ndjson.gz]
	@$(DEMO) --purge "$(FILE)"

system: ## The demo from containers alone: the relay's image, LocalStack, RabbitMQ; needs Docker [FILE=path.ndjson.gz]
	@localstack/system "$(FILE)"

test: ## Run all tests [STREAMBOX_TEST_MODE=embedded|containers|dynamodb-local]
	@localstack/test cargo test $(WORKSPACE) --profile $(PROFILE)

test-containers: ## Run all tests on LocalStack and RabbitMQ in containers; needs Docker
	@STREAMBOX_TEST_MODE=containers localstack/test cargo test $(WORKSPACE) --profile $(PROFILE)

test-dynamodb-local: ## Run all tests on AWS's DynamoDB Local instead of the embedded engine; needs a JDK 17
	@STREAMBOX_TEST_MODE=dynamodb-local localstack/test cargo test $(WORKSPACE) --profile $(PROFILE)

# How a table was made matters to who appends and who relays; MiniStack is slow, and counts reads otherwise than AWS.
CLOUDFORMATION_TESTS := infra:: append::lost_answer:: append::private:: append::transaction:: append::writers:: broker::restart:: \
  operations::cli::append:: operations::status:: operations::telemetry:: $(addsuffix ::,$(addprefix relay::,consumer crash \
  dynamodb_faults group halt message replay skip worker_rows))

test-cloudformation: ## Deploy infra's templates to MiniStack and run the tests of appends and relay on such tables; needs Python 3
	@env -u AWS_ENDPOINT_URL_DYNAMODB STREAMBOX_DYNAMODB=ministack STREAMBOX_TEST_TABLES=cloudformation localstack/run bash -c \
	  'STREAMBOX_TEST_DYNAMODB_URL=$$AWS_ENDPOINT_URL_DYNAMODB exec cargo test $(WORKSPACE) --profile $(PROFILE) --test it -- $(CLOUDFORMATION_TESTS)'

bench: ## Measure the relay: speed, latency, memory, optimised [FILE=path.ndjson.gz] [BENCH="--only shapes,latency"]
	@STREAMBOX_PROFILE=release localstack/run cargo bench $(WORKSPACE) --bench relay -- "$(abspath $(FILE))" $(BENCH)

bench-store: ## Measure what the library adds to the raw SDK's requests, optimised [CASE=part of a name]
	@cargo bench $(WORKSPACE) --bench store -- "$(CASE)"

bench-peers: ## Measure streambox beside the raw SDK, dynamo-es and event-store-adapter-rs, optimised [CASE=part of a name]
	@cargo run --quiet --locked --release --manifest-path tests/peers/Cargo.toml -- "$(CASE)"

bench-contention: ## Count the commands on one hot stream that are given up, and the requests of each [CASE=part of a name]
	@cargo bench $(WORKSPACE) --profile $(PROFILE) --bench contention -- "$(CASE)"

bench-consumer: ## Measure the consumer beside a bare loop, optimised [BENCH="--shapes 200x100 --added-ms 0"]
	@STREAMBOX_PROFILE=release localstack/run cargo bench $(WORKSPACE) --bench consumer -- $(BENCH)

bench-rebuild: ## Measure how a projection is rebuilt from the table, optimised [FILE=path.ndjson.gz] [BENCH="--events 1000000"]
	@cargo bench $(WORKSPACE) --bench rebuild -- "$(abspath $(FILE))" $(BENCH)

lint: ## Check format, lints, documentation and scripts, warnings denied
	cargo fmt --all --check
	cargo clippy $(WORKSPACE) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(WORKSPACE) --no-deps --document-private-items
	shellcheck $(filter-out %.mjs,$(wildcard .ci/*)) infra/lint infra/prometheus/install localstack/{program,selftest,install-rabbitmq,init/ready.d/table.sh}

infra-lint: ## Check templates, alerts, manifests, modules with cfn-lint, checkov, promtool, kustomize and the CDK; needs Python 3
	@infra/lint

terraform: ## Write infra/terraform's modules from the templates
	@STREAMBOX_UPDATE_TERRAFORM=1 cargo test --quiet $(WORKSPACE) --test it -- infra::terraform::each_module

promises: ## Write tests/PROMISES.md, the list of promises and their tests, from the names of the tests
	@STREAMBOX_UPDATE_PROMISES=1 cargo test --quiet $(WORKSPACE) --test promises -- every_promise

public-api: ## Write the lists of public items, public-api.txt of store, relay and consumer, from the code
	@.ci/public-api --install
	@.ci/public-api --write

up: ## Start the local stack, or find it running; prints the settings to export
	@localstack/up

down: ## End the local stack
	@localstack/down
