#!/usr/bin/env bash
# Runs every test: once without a GPU, then the GPU tests and `kiln check` on each software
# Vulkan driver. Logs go to target/test-logs. The last line is "N passed, N failed".
#
#   tests/run.sh [--install] [--driver lavapipe|swiftshader|lavapipe-unstable]...
#
#   --install      fetch missing drivers first: Debian packages, by sudo where needed, and a newer
#                  lavapipe, unpacked into ~/.cache/kiln and run from there, not installed
#   --driver NAME  only this driver (may be repeated); it is an error when it cannot be had
#
# lavapipe           Mesa as the distribution has it: f16, subgroups of 8
# swiftshader        out of Chromium: no f16, subgroups of 4, 256 invocations, few storage buffers
# lavapipe-unstable  Mesa of Debian unstable: cooperative matrices as well
#
# KILN_REQUIRE_GPU=1 makes a missing lavapipe or SwiftShader an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' tests/run.sh
}

all_drivers=(lavapipe swiftshader lavapipe-unstable)
drivers=()
install=no
while (($#)); do
    case $1 in
        --install) install=yes ;;
        --driver)
            if [[ " ${all_drivers[*]} " != *" ${2:-?} "* ]]; then
                echo "tests/run.sh: --driver takes one of: ${all_drivers[*]}" >&2
                exit 2
            fi
            drivers+=("$2")
            shift
            ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
chosen=yes
if ((${#drivers[@]} == 0)); then
    chosen=no
    drivers=("${all_drivers[@]}")
fi

host=$(rustc -vV | sed -n 's/^host: //p')
arch=${host%%-*}
target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
logs=$target/test-logs
unstable=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/kiln/lavapipe-unstable
mkdir -p "$logs"

# ---- drivers -----------------------------------------------------------------------------------

# The driver's manifest, to name in VK_DRIVER_FILES; fails where there is none.
manifest() {
    local file
    local -a files
    case $1 in
        lavapipe) files=({/usr/local,/usr,/etc}/{share/,}vulkan/icd.d/lvp_icd{".$arch",}.json) ;;
        swiftshader) files=({/usr/lib,/usr/lib64,/opt,/opt/google}/{chromium,chromium-browser,chrome}/vk_swiftshader_icd.json) ;;
        lavapipe-unstable) files=("$unstable/lvp_icd.json") ;;
    esac
    for file in "${files[@]}"; do
        if [[ -e $file ]]; then
            echo "$file"
            return
        fi
    done
    return 1
}

# How to come by a driver.
hint() {
    case $1 in
        lavapipe) echo "tests/run.sh --install, or apt install mesa-vulkan-drivers" ;;
        swiftshader) echo "tests/run.sh --install, or apt install chromium-common" ;;
        lavapipe-unstable) echo "tests/run.sh --install" ;;
    esac
}

# Environment of a program that is to see only this driver.
driver_env() {
    echo "VK_DRIVER_FILES=$(manifest "$1")"
    echo "VK_LOADER_LAYERS_DISABLE=~implicit~" # overlays and device pickers of this machine
    echo "WGPU_BACKEND=vulkan"
    echo "KILN_REQUIRE_GPU=1"
}

# "Mesa 22.3.6" or the like, where vulkaninfo is at hand.
version() {
    local -a run=(env "VK_DRIVER_FILES=$(manifest "$1")")
    [[ $1 != lavapipe-unstable ]] || run+=("$unstable/run")
    command -v vulkaninfo >/dev/null || return 0
    "${run[@]}" "$(command -v vulkaninfo)" --summary 2>/dev/null | awk -F ' = ' '
        /driverVersion/ { version = $2 }
        /driverInfo/ { info = $2 }
        END { sub(/ \(LLVM.*/, "", info); print info ? info : version }' || true
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "neither root nor sudo: cannot run $*"
        return 1
    fi
}

# Unpacks the newest lavapipe, with the libraries that it needs down to the C library, by a private
# apt that uses the machine's own mirror and no root. $unstable/run then runs a program with
# these libraries through their own dynamic loader, so the file system stays the machine's.
unpack_unstable() {
    local site lib loader deb
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    # shellcheck disable=SC2016 # apt's variables, not the shell's
    site=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(SITE)' |
        awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
    if [[ -z $site ]]; then
        echo "apt has no Debian mirror"
        return 1
    fi
    mkdir -p "$(dirname "$unstable")"
    tmp=$(mktemp -d "$unstable.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    mkdir -p "$tmp"/apt/{lists,archives}/partial
    : >"$tmp/apt/status"
    [[ -e $keyring ]] && keyring="[signed-by=$keyring]" || keyring=
    echo "deb $keyring $site unstable main" >"$tmp/apt/sources.list"
    local -a apt=(apt-get -q
        -o "Dir::State=$tmp/apt" -o "Dir::State::status=$tmp/apt/status" -o "Dir::Cache=$tmp/apt"
        -o "Dir::Etc::sourcelist=$tmp/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Languages=none
        -o APT::Sandbox::User=root)
    "${apt[@]}" update
    "${apt[@]}" install --yes --download-only --no-install-recommends mesa-vulkan-drivers libvulkan1
    for deb in "$tmp"/apt/archives/*.deb; do
        dpkg -x "$deb" "$tmp"
    done
    rm -r "$tmp/apt"

    lib=usr/lib/$arch-linux-gnu
    loader=$(basename "$tmp/$lib"/ld-linux-*.so.*)
    cat >"$tmp/run" <<END
#!/bin/sh
lib=\$(cd "\$(dirname "\$0")/$lib" && pwd)
exec "\$lib/$loader" --library-path "\$lib" "\$@"
END
    chmod 755 "$tmp" "$tmp/run"
    echo "{\"file_format_version\":\"1.0.1\",\"ICD\":{\"library_path\":\"./$lib/libvulkan_lvp.so\",\"api_version\":\"1.4.0\"}}" >"$tmp/lvp_icd.json"
    "$tmp/run" --list "$tmp/$lib/libvulkan_lvp.so" # fails where a library is missing
    rm -rf "$unstable"
    mv -T "$tmp" "$unstable"
}

# Installs what is missing of the compiler and of the chosen drivers, and nothing else.
install_missing() {
    local driver status
    local -a packages=()
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    command -v vulkaninfo >/dev/null || packages+=(vulkan-tools)
    for driver in "${drivers[@]}"; do
        manifest "$driver" >/dev/null && continue
        case $driver in
            lavapipe) packages+=(mesa-vulkan-drivers libvulkan1) ;;
            swiftshader) packages+=(chromium-common libvulkan1) ;;
            lavapipe-unstable) packages+=(debian-archive-keyring) ;;
        esac
    done
    ((${#packages[@]})) || return 0
    if ! command -v apt-get >/dev/null; then
        echo "--install: no apt-get here; going on with what there is"
        return 0
    fi
    echo "--install: ${packages[*]} (log: $logs/install.log)"
    {
        as_root apt-get -q update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "${packages[@]}"
    } >"$logs/install.log" 2>&1 </dev/null || tail -n 5 "$logs/install.log"
    if [[ " ${drivers[*]} " == *" lavapipe-unstable "* ]] && ! manifest lavapipe-unstable >/dev/null; then
        # Not in a condition: there `set -e` would be off inside.
        set +e
        (
            set -e
            unpack_unstable
        ) >"$logs/install-unstable.log" 2>&1 </dev/null
        status=$?
        set -e
        if ((status != 0)); then
            echo "lavapipe-unstable: not unpacked: $(tail -n 1 "$logs/install-unstable.log")"
        fi
    fi
}

# ---- running -----------------------------------------------------------------------------------

passed=0
failed=0

# step LOG HEADING COMMAND...: runs it into its log; shows the log's end if it fails.
step() {
    local log=$logs/$1.log heading=$2 start=$SECONDS status=0
    shift 2
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status == 0)); then
        echo "  $heading: $((SECONDS - start)) s"
    else
        echo "  $heading: FAILED after $((SECONDS - start)) s (log: $log)"
        grep -aE '^error|FAIL|panicked at' "$log" | head -n 40 || true
        echo "  ... the end of the log:"
        tail -n 60 "$log"
    fi
    return "$status"
}

# count LOG STATUS: adds the log's results to the totals and leaves them in $counts. A command that
# failed without naming a failure is one failure, and so are GPU tests of which none passed.
count() {
    local p f i
    read -r p f i < <(awk '
        /^test result: / { for (n = 2; n <= NF; n++) v[$n] += $(n - 1) }
        /^[0-9]+ passed, [0-9]+ failed/ { v["passed;"] += $1; v["failed;"] += $3 }
        END { print v["passed;"] + 0, v["failed;"] + 0, v["ignored;"] + 0 }' "$logs/$1.log")
    if ((f == 0 && ($2 != 0 || p == 0))); then
        ((p > 0)) || echo "  $1: nothing passed, which counts as a failure"
        f=1
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    counts="$p passed, $f failed"
    ((i == 0)) || counts+=", $i ignored"
}

finish() {
    printf '%s\n' "${summary[@]}"
    echo "$passed passed, $failed failed"
    ((failed == 0))
    exit
}

summary=()
test_args=(--release --locked --workspace --no-fail-fast)

[[ $install == no ]] || install_missing

found=()
for driver in "${drivers[@]}"; do
    if manifest "$driver" >/dev/null; then
        found+=("$driver")
    elif [[ $chosen == yes || (${KILN_REQUIRE_GPU:-0} == 1 && $driver != lavapipe-unstable) ]]; then
        failed=$((failed + 1))
        summary+=("$driver: MISSING, but required ($(hint "$driver"))")
    else
        summary+=("$driver: not found, not tested ($(hint "$driver"))")
    fi
done

echo "build"
# Everything in one command, so that the features of shared crates are settled once.
if ! step build "everything" cargo build --release --locked --workspace --bins --tests --examples; then
    failed=$((failed + 1))
    summary+=("build: FAILED")
    finish
fi

echo "no GPU"
status=0
step no-gpu "tests" env -u KILN_REQUIRE_GPU KILN_NO_GPU=1 cargo test "${test_args[@]}" || status=$?
count no-gpu "$status"
summary+=("no GPU: tests $counts")

for driver in ${found[@]+"${found[@]}"}; do
    version=$(version "$driver")
    echo "$driver${version:+ ($version)}"
    mapfile -t vars < <(driver_env "$driver")
    run=()
    if [[ $driver == lavapipe-unstable ]]; then
        run=("$unstable/run")
        runner=${host//-/_}
        vars+=("CARGO_TARGET_${runner^^}_RUNNER=$unstable/run")
    fi
    line="$driver${version:+ ($version)}: tests "
    for off in "" f16 subgroups; do
        tier=${off:+$off off}
        tier=${tier:-all features}
        status=0
        step "$driver-${tier// /-}" "tests, $tier" env "${vars[@]}" "KILN_DISABLE=$off" \
            cargo test "${test_args[@]}" --test gpu || status=$?
        count "$driver-${tier// /-}" "$status"
        line+="$counts ($tier); "
    done
    status=0
    step "$driver-check" "kiln check" env "${vars[@]}" ${run[@]+"${run[@]}"} \
        "$target/release/kiln" check --json "$target/kiln-check-$driver.json" || status=$?
    count "$driver-check" "$status"
    summary+=("${line}check $counts")
done

finish
