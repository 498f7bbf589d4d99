# shellcheck shell=bash
# Sourced by the scripts here and by people: what this machine needs for ranks, and how the project is built.
# Sets a few environment variables and build_preset, nothing else.

# Open MPI refuses to start as root unless told twice; nobody else needs that said.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# More ranks than cores is the normal case on a laptop.
export OMPI_MCA_rmaps_base_oversubscribe=1
# A job that ends with an error ends with our words, not with mpirun's about them.
export OMPI_MCA_orte_execute_quiet=1
# Threads that wait spin for a moment only: whoever else needs the core gets it. gcc's OpenMP reads this as it starts.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
# ccache needs a folder even where HOME is not set.
if [ -z "${HOME:-}" ] && [ -z "${CCACHE_DIR:-}" ]; then
  CCACHE_DIR="${TMPDIR:-/tmp}/fpdist-ccache-$(id -u)"
  export CCACHE_DIR
fi

# build_preset PRESET [TARGET ...]: configures and builds; call it from the project's root.
build_preset() {
  local preset=$1
  shift
  cmake --preset "$preset" >/dev/null
  ninja -C "build/$preset" "$@"
}
