#!/usr/bin/env bash
# Makes echarts.min.js and the licences beside it anew from the npm package: renew.sh [VERSION]. Needs npm and the network.
# Without a version it makes the one that is here again; the same file must come out (echarts.min.js.sha256).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=${1:-$(sed -n 's/^echarts //p' "$here/VERSION")}
esbuild=0.25.12
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --silent --ignore-scripts --save-exact "echarts@$version"
npm install --silent --save-exact "esbuild@$esbuild"
cp "$here/entry.js" entry.js
npx esbuild entry.js --bundle --minify --format=iife --global-name=echarts --target=es2019 --charset=ascii \
  --legal-comments=none --define:process.env.NODE_ENV='"production"' --define:__DEV__=false --outfile=bundle.js
zrender=$(node -p "require('zrender/package.json').version")
{
  echo "/*! Apache ECharts $version (Apache-2.0) with zrender $zrender (BSD-3-Clause), bundled from entry.js by renew.sh */"
  cat bundle.js
} >"$here/echarts.min.js"
cp node_modules/echarts/LICENSE node_modules/echarts/NOTICE "$here/"
cp node_modules/echarts/licenses/LICENSE-d3 "$here/"
cp node_modules/zrender/LICENSE "$here/LICENSE-zrender"
printf 'echarts %s\nzrender %s\nesbuild %s\n' "$version" "$zrender" "$esbuild" >"$here/VERSION"
(cd "$here" && sha256sum echarts.min.js >echarts.min.js.sha256)
