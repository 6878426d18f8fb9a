# Short names for the commands of this repository. Each is one or two plain lines, so nobody needs `just`: copy them.
# To have it: `cargo install just`, or `pipx install rust-just`, which brings it built.

# what there is
default:
    @just --list --unsorted

# after each change, under a minute after a small one: form, lints and tests of what holds the meaning, the simulation's seeds
fast:
    cargo fmt --all --check
    cargo clippy --locked -p jobmill-core -p jobmill-engine -p jobmill-memory --all-targets -- -D warnings
    cargo test --locked --workspace --lib --test golden --test properties --test lock_model --test pacer --test decisions --test engine --test architecture --test documents --test examples
    cargo test --locked --workspace --test simulation random_seeds

# every test in Rust
test:
    cargo test --locked

# what CI does, in its order
ci:
    .ci/run

# lints of everything
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings

# licences, sources, crates that must stay out
deny:
    tests/deny/run

# the engines that are broken on purpose, each of which the simulation must catch: a build of its own
mutants:
    RUSTFLAGS="--cfg jobmill_mutants" cargo test --locked --target-dir target/mutants -p jobmill-simulation --test mutants

# more chance for the simulation: `just seeds 100000`
seeds N:
    JOBMILL_SEEDS={{ N }} cargo test --locked --workspace --test simulation random_seeds -- --nocapture

# one seed with its story: `just seed 17`
seed N:
    JOBMILL_SEED={{ N }} cargo test --locked --workspace --test simulation replay -- --nocapture

# no pair of crashes left out
matrix:
    JOBMILL_MATRIX=full cargo test --locked --workspace --test simulation

# hostile input, for so many seconds
fuzz SECONDS="600":
    JOBMILL_FUZZ_SECONDS={{ SECONDS }} cargo test --locked --workspace --test fuzz

# the stack of the template on an emulator
e2e *ARGUMENTS:
    tests/e2e/run {{ ARGUMENTS }}

# sosw's own parts beside the real binary
interop *ARGUMENTS:
    tests/interop/run {{ ARGUMENTS }}

# what documents and editors have from the code, written anew: docs/schemas, tables of the configuration
schemas:
    JOBMILL_BLESS=1 cargo test --locked --workspace --test schemas

# the pages of the library
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --open
