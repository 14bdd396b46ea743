import init from "./patchboard.js";
init({ module_or_path: "./patchboard_bg.wasm" }).catch(window.patchboardFailed);
