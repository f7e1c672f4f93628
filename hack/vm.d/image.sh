# Debian's kernel for hack/vm: unpacked once, never installed, and kept outside the checkout. Sourced after lib.sh.

# The kernel modules that the way to a root file system takes, the rest is loaded from there.
boot_modules='virtio_pci 9pnet_virtio 9p virtio_console overlay'

image_cache() { printf '%s\n' "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kube-penstock"; }

# The Debian packages that are missing here, of those that hack/vm needs outside (QEMU) or that only make sense inside (IPVS).
missing_image_packages() {
  local pair missing=''
  for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modprobe:kmod ipvsadm:ipvsadm xz:xz-utils \
    setpriv:util-linux flock:util-linux sysctl:procps; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
  done
  # The package busybox has the same program, but it needs libraries, and there are none where it runs.
  case $missing in
    *busybox*) ;;
    *) busybox_is_static || missing="$missing busybox-static" ;;
  esac
  # shellcheck disable=SC2086
  printf '%s\n' $missing | sort -u | tr '\n' ' ' | sed 's/ *$//'
}

busybox_is_static() { ! LC_ALL=C ldd "$(command -v busybox)" >/dev/null 2>&1; }

# Names and sizes of all files of an image: what tells a whole one from a broken one, in a fraction of a second.
image_contents() {
  (cd "$1" && find vmlinux modules -type f -printf '%s %p\n' 2>/dev/null | LC_ALL=C sort)
}

image_is_whole() {
  [ -s "$1/contents" ] && [ -s "$1/release" ] && image_contents "$1" | cmp -s - "$1/contents"
}

# Sets $image to the newest whole image, status 1 if there is none.
find_image() {
  local candidate
  for candidate in $(printf '%s\n' "$(image_cache)"/vm-* | sort -rV); do
    if image_is_whole "$candidate"; then
      image=$candidate
      return 0
    fi
  done
  return 1
}

# Writes the kernel of a bzImage as it is after unpacking itself, which takes an emulated processor 20 s.
# The offsets are those of the x86 boot protocol (Documentation/arch/x86/boot.rst): setup_sects, payload_offset, payload_length.
unpack_kernel() {
  local setup offset length
  setup=$(od -An -tu1 -j 497 -N 1 "$1")
  offset=$(od -An -tu4 -j 584 -N 4 "$1")
  length=$(od -An -tu4 -j 588 -N 4 "$1")
  # After the payload come four bytes with its unpacked size.
  dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip=$(((setup + 1) * 512 + offset)) count=$((length - 4)) status=none |
    xz -dc >"$2"
}

download_kernel() {
  local package
  package=$(apt-cache depends --important linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
  if [ -z "$package" ]; then
    [ "$(id -u)" -ne 0 ] || apt-get update -q
    package=$(apt-cache depends --important linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
  fi
  case $package in
    linux-image-*) ;;
    *)
      echo "apt knows no package linux-image-amd64, which is Debian's kernel; 'apt-get update' may help."
      return 1
      ;;
  esac
  # The lists may be older than the mirror, which then no longer has the version they name.
  apt-get download -q "$package" || { [ "$(id -u)" -eq 0 ] && apt-get update -q && apt-get download -q "$package"; }
}

# Downloads and unpacks Debian's kernel into the empty directory $1, and leaves an image in $1/image.
make_image() {
  local release
  cd "$1" || return 1
  download_kernel || return 1
  dpkg-deb -x linux-image-*.deb unpacked || return 1
  release=$(ls unpacked/lib/modules) || return 1
  mkdir -p image/modules || return 1
  mv unpacked/lib image/modules/ || return 1
  unpack_kernel "unpacked/boot/vmlinuz-$release" image/vmlinux || return 1
  depmod -b image/modules "$release" || return 1
  printf '%s\n' "$release" >image/release
  dpkg-deb -f linux-image-*.deb Version | tr -c 'A-Za-z0-9.+~\n-' _ >version
  image_contents image >image/contents
}

# Sets $initrd to the first file system: busybox, the modules to get further, and the scripts beside this one.
ensure_initrd() {
  local release hash tree path number=10
  release=$(cat "$image/release")
  hash=$(cat "$root/hack/vm.d/init" "$root/hack/vm.d/inside" "$root/hack/vm.d/image.sh" "$(command -v busybox)" | sha256sum)
  initrd=$image/initrd-${hash:0:16}
  [ ! -s "$initrd" ] || return 0
  # Those of former versions, and what a former run could not finish; not one that another run is about to read.
  find "$image" -maxdepth 1 \( -name 'initrd-*' -o -name '.initrd.*' \) -mmin +60 -exec rm -rf {} +
  tree=$(mktemp -d "$image/.initrd.XXXXXX")
  mkdir "$tree"/{bin,modules,dev,proc,sys,host,overlay,view,root}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  cp "$root/hack/vm.d/init" "$root/hack/vm.d/inside" "$tree/"
  chmod 755 "$tree"/{init,inside,bin/busybox}
  # shellcheck disable=SC2086
  for path in $(modprobe -d "$image/modules" -S "$release" --show-depends -a $boot_modules |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
    cp "$path" "$tree/modules/$number-$(basename "$path")"
    number=$((number + 1))
  done
  (cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null) >"$tree.cpio"
  mv "$tree.cpio" "$initrd"
  rm -rf "$tree"
}

# Sets $image, $initrd and $modules, and makes first what is missing or broken.
ensure_image() {
  local cache lock
  cache=$(image_cache)
  mkdir -p "$cache" || die "the directory $cache, where the kernel is kept, cannot be made."
  # One at a time: two at once would download twice and step on each other.
  exec {lock}>"$cache/lock" || die "$cache/lock cannot be written."
  flock -w 3 "$lock" || { say "waiting for another hack/vm that prepares the kernel …" && flock "$lock"; }
  if ! find_image; then
    rm -rf "$cache"/vm-* "$cache/.making"
    mkdir "$cache/.making"
    patiently "downloading and unpacking Debian's kernel (70 MB)" make_image "$cache/.making" ||
      die "Debian's kernel could not be had; why is said above."
    image=$cache/vm-$(cat "$cache/.making/image/release")-$(cat "$cache/.making/version")
    mv "$cache/.making/image" "$image"
    rm -rf "$cache/.making"
    find_image || die "the unpacked kernel in $image is not whole; is the disk full?"
  fi
  modules=$image/modules/lib/modules/$(cat "$image/release")
  ensure_initrd
  exec {lock}>&-
}
