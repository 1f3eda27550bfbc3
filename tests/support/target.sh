# Where cargo builds, as $target. To be sourced in the project's root.
target="${CARGO_TARGET_DIR:-target}"
[[ $target = /* ]] || target="$(pwd)/$target"
