#!/bin/bash
# Builds the example images as OCI layouts: build/images/NAME, tag `latest`. What is there is kept.
# usage: make-images.sh [small] [mid] [ml]     (all three when none is named)
#   small  Debian, nginx                                   3 layers,  about 60 MB
#   mid    Debian, Python, numpy, pandas, flask            4 layers,  about 130 MB
#   ml     Debian, Python, torch (CUDA), transformers      5 layers,  about 3.3 GB, needs 20 GB free
# The layers are gzip, as buildah pushes them. The images share their first layers.
# IMAGES_DIR and IMAGES_WORK name other places.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

out=${IMAGES_DIR:-$PWD/build/images}
work=${IMAGES_WORK:-$PWD/build/images.work}
minutes_max=40 # for one step; the longest, torch, takes about four on a fast line

wanted=()
[ $# -gt 0 ] || set -- small mid ml
for name in "$@"; do
  case $name in small | mid | ml) ;; *) fail "unknown image $name" "images: small mid ml" ;; esac
  [ -f "$out/$name/index.json" ] || wanted+=("$name")
done
[ ${#wanted[@]} -gt 0 ] || exit 0
need_root "building images"
mkdir -p "$out" "$work/context" "$work/tmp"

# A store of its own: the machine's images are not touched.
export TMPDIR=$work/tmp BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
  "$work/graph" "$work/run" >"$CONTAINERS_STORAGE_CONF"
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"

# The root filesystem of a small Debian, from the mirror that this machine uses already.
base() {
  [ ! -f "$work/context/base.tar" ] || return 0
  local mirror root=$work/rootfs
  mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' \
    /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true)
  rm -rf "$root"
  # shellcheck disable=SC2086 # no mirror found: no argument, and debootstrap takes its own default
  timeout "${minutes_max}m" debootstrap --variant=minbase bookworm "$root" $mirror >"$work/base.log" ||
    fail "debootstrap failed" "its log: $work/base.log"
  rm -rf "${root:?}"/var/cache/apt/* "${root:?}"/var/lib/apt/lists/* "${root:?}"/dev/* "${root:?}"/var/log/*
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  tar -C "$root" --numeric-owner --sort=name -cf "$work/context/base.tar.new" .
  mv "$work/context/base.tar.new" "$work/context/base.tar"
  rm -rf "$root"
}

apt='export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends'
clean='rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /tmp/* /root/.cache'
pip='/opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --cert /host-ca.crt'
tidy='rm -rf /tmp/* /root/.cache'
debian='FROM scratch
ADD base.tar /
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["/bin/bash"]'
python="$debian
RUN $apt python3 python3-venv ca-certificates && python3 -m venv /opt/venv && $clean"

containerfile() {
  case $1 in
  small) printf '%s\n' "$debian" "RUN $apt nginx-light && $clean" \
    'COPY nginx.conf /etc/nginx/hello.conf' 'CMD ["nginx","-c","/etc/nginx/hello.conf"]' ;;
  mid) printf '%s\n' "$python" "RUN $pip numpy pandas flask gunicorn && $tidy" \
    'COPY hello_flask.py /app/' 'WORKDIR /app' 'CMD ["python","/app/hello_flask.py"]' ;;
  ml) printf '%s\n' "$python" "RUN $pip torch numpy && $tidy" \
    "RUN $pip transformers jupyterlab && $tidy" \
    'COPY hello_torch.py /app/' 'WORKDIR /app' 'CMD ["python","/app/hello_torch.py"]' ;;
  esac
}

# Not `bud --timestamp`: it makes every .pyc look stale, and each start would compile again.
build() {
  say "building image $1"
  containerfile "$1" >"$work/Containerfile.$1"
  timeout "${minutes_max}m" buildah bud --layers --isolation chroot --signature-policy "$work/policy.json" \
    -v "$work/context/host-ca.crt:/host-ca.crt:ro" --format oci -t "localhost/$1:latest" \
    -f "$work/Containerfile.$1" "$work/context" >"$work/$1.log" 2>&1 ||
    fail "building image $1 failed: $(tail -1 "$work/$1.log")" "its log: $work/$1.log"
  rm -rf "${out:?}/.new-$1"
  timeout "${minutes_max}m" buildah push --quiet --signature-policy "$work/policy.json" --format oci \
    "localhost/$1:latest" "oci:$out/.new-$1:latest"
  mv "$out/.new-$1" "$out/$1"
}

cp scripts/images/* "$work/context/"
cp /etc/ssl/certs/ca-certificates.crt "$work/context/host-ca.crt"
say "images to build: ${wanted[*]}"
base
for name in "${wanted[@]}"; do build "$name"; done
