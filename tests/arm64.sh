#!/usr/bin/env bash
# Run notebooks, and tests/test_blocks.py, on an emulated 64-bit Arm processor. By hand, never in CI.
#
#     tests/arm64.sh [NUMBER ...]              notebooks; without numbers: 01 02 03 06
#     QEMU_CPU=CPU tests/arm64.sh              without: neoverse-n1; max,sve-default-vector-length=32 has SVE, too
#     ARM64=FOLDER tests/arm64.sh              where Debian and the packages lie; without: build/arm64
#
# Needs Debian 12 on x86_64, root, 4 GB of disk (2 GB stay, and pip's cache), 2 GB of memory for each of up to four cores, and
#     apt-get install qemu-user-static debootstrap binutils-aarch64-linux-gnu python3-venv
# Minutes on quiet cores: Debian 4, packages 2, both only once; notebooks 01 2, 03 3, 02 40, 06 25; test_blocks.py 30.
# One run at a time in one folder.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${ARM64:-build/arm64}")
root=$folder/root
packages=$root/usr/local/lib/python3.11/dist-packages
export QEMU_CPU=${QEMU_CPU:-neoverse-n1}

say() { echo "arm64: $(date +%T) $*"; }
refuse() { echo "arm64: $*" >&2 && exit 1; }

check_machine() {
    [ "$(id -u)" = 0 ] || refuse "this needs root: it makes a Debian of its own and changes into it"
    for program in qemu-aarch64-static debootstrap aarch64-linux-gnu-ld; do
        [ "$(command -v $program)" ] || refuse "$program is missing; what to install stands at the top of tests/arm64.sh"
    done
    # pip chooses packages for the version of the Python that it runs on.
    [[ $(python3 -V) == "Python 3.11."* ]] || refuse "python3 must be Python 3.11, as in Debian 12, not $(python3 -V)"
}

# Linux then starts Arm programs through QEMU, and so their children, too. Where systemd runs, Debian's package did this.
register_qemu() {
    local formats=/proc/sys/fs/binfmt_misc
    [ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
    [ -e $formats/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $formats/register
}

make_root() {
    say "a Debian for Arm: 4 minutes, 0.3 GB"
    rm -rf --one-file-system "$root.unfinished"
    unshare --mount debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm "$root.unfinished" \
        > "$folder/debootstrap.log" || refuse "debootstrap failed: $(tail -n 1 "$folder/debootstrap.log")"
    pretend_processor "$root.unfinished"
    mv "$root.unfinished" "$root"
}

# torch's libraries read from these files, which QEMU does not emulate, what processor this is: a core of a Neoverse N1.
pretend_processor() {
    local cpu=$1/sys/devices/system/cpu
    mkdir -p "$cpu/cpu0/regs/identification"
    echo 0 | tee "$cpu/possible" > "$cpu/present"
    echo 0x00000000413fd0c1 > "$cpu/cpu0/regs/identification/midr_el1"
    cat > "$1/etc/cpuinfo" <<- END
		processor	: 0
		Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
		CPU implementer	: 0x41
		CPU architecture: 8
		CPU variant	: 0x3
		CPU part	: 0xd0c
		CPU revision	: 1

	END
}

# By this machine's pip: an emulated one takes twenty times as long.
install_packages() {
    say "the packages of requirements.txt, for Arm: 2 minutes, 1.7 GB"
    rm -rf "$packages"
    python3 -m venv "$folder/pip"
    local install=("$folder/pip/bin/python" -m pip install --quiet --upgrade --target "$packages" --only-binary=:all:)
    install+=(--python-version 3.11 --platform=manylinux{_2_28,_2_17,2014}_aarch64)
    # PyPI's torch for Arm needs 3 GB for NVIDIA's GPUs. What else it needs, others bring along, but these two.
    grep -v "^torch==" requirements.txt > "$folder/others.txt"
    "${install[@]}" -r "$folder/others.txt" sympy networkx
    "${install[@]}" --no-deps "$(grep "^torch==" requirements.txt)"
    # Of the 3 GB only the CUDA runtime, 1 MB: it is what says that there is no GPU.
    version=$(sed -n "s/^Requires-Dist: cuda-toolkit[^;]*\(==[0-9.]*\);.*/\1/p" "$packages"/torch-*/METADATA)
    "${install[@]}" "cuda-toolkit[cudart]$version"
    (cd "$packages/torch/lib" && stand_in_for_nvidia)
    cp requirements.txt "$packages"
}

# That torch does not load without NVIDIA's other libraries, though nothing here calls them. One empty library stands in for
# all: it has every name that torch looks for in them.
stand_in_for_nvidia() {
    local nvidia="(cu(blas|dnn|fft|file|pti|rand|sparse)|nccl|nvrtc|nvshmem)"
    aarch64-linux-gnu-nm -D --undefined-only ./*.so | awk '{print $2}' | grep -iE "^$nvidia" | sort -u > names
    awk -F@ '!seen[$1]++ {print ".globl " $1 "\n.type " $1 ", %function\n" $1 ":"} END {print "brk #0"}' names |
        aarch64-linux-gnu-as -o stand_in.o
    awk -F@ 'NF > 1 && !seen[$2]++ {print $2 " {};"}' names > versions
    aarch64-linux-gnu-ld -shared --version-script versions -o stand_in.so stand_in.o
    readelf -d ./*.so | grep NEEDED | grep -oE "lib${nvidia}[^]]*" | sort -u | xargs -n 1 ln -s stand_in.so
}

# A program, in the Debian for Arm. Its mounts vanish with it, however it ends.
arm() {
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount --bind "$0/etc/cpuinfo" "$0/proc/cpuinfo" &&
        exec chroot "$0" env -i --chdir=/series "$@"' "$root" HOME=/root LANG=C.UTF-8 PATH=/usr/bin:/bin \
        QEMU_CPU="$QEMU_CPU" OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 "$@"
}

copy_series() {
    rm -rf "$root/series"
    mkdir "$root/series"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$root/series"
}

check_machine
[ $# -gt 0 ] || set -- 01 02 03 06
notebooks=()
for number; do
    notebooks+=("$(compgen -G "notebooks/${number}_*.ipynb")") || refuse "there is no notebook $number"
done
mkdir -p "$folder"
register_qemu
[ -e "$root" ] || make_root
cmp --silent requirements.txt "$packages/requirements.txt" || install_packages
copy_series
say "the processor: QEMU's $QEMU_CPU"
arm python3 -c 'import torch; print("torch", torch.__version__, "computes with", torch.backends.cpu.get_cpu_capability())'
nbval=$(arm python3 -c 'from utils.start import NBVAL; print(*NBVAL)')
say "notebooks $* and tests/test_blocks.py"
workers=$(nproc)
# shellcheck disable=SC2086 # several options
arm python3 -m pytest -v -p no:cacheprovider -n $((workers < 4 ? workers : 4)) --dist loadfile $nbval \
    "${notebooks[@]}" tests/test_blocks.py
