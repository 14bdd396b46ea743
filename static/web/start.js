import init, * as viewer from "./web.js";
// What some pages need beside the rest is fetched with it, and not after it has said so.
if (/^#\/(c\/|j\/|study\/|queue|new)/.test(location.hash)) viewer.fetchPages?.();
init({ module_or_path: "./web_bg.wasm" }).catch(window.patchboardFailed);
