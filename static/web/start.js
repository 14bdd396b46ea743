// Starts the viewer. A file of its own, so that a server can forbid scripts within pages.
import init from "./patchboard.js";
init({ module_or_path: "./patchboard_bg.wasm" }).catch(window.patchboardFailed);
