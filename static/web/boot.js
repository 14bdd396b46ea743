// Sets the theme before anything is painted, and says on the page when it cannot start, or when it
// has stopped by a defect of its own.
"use strict";
(function () {
  const root = document.documentElement;
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // Some pages, e.g. in a notebook, have no storage.
  }
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "dark" : "light";

  const say = (id, text) => {
    const place = document.getElementById(id);
    if (place) place.textContent = text;
  };
  const words = (reason) => String((reason && reason.message) || reason || "");
  const defect = (reason) => {
    // The first one is the cause of those that follow.
    if (root.dataset.state === "defect") return;
    root.dataset.state = "defect";
    document.title = "Defect · Patchboard";
    say("defect-reason", words(reason));
    say("defect-link", location.href);
    const link = document.getElementById("defect-link");
    if (link) link.href = location.href;
    const again = document.getElementById("defect-again");
    if (again) again.onclick = () => location.reload();
  };
  const fail = (reason) => {
    if (root.dataset.state === "loading") {
      root.dataset.state = "failed";
      say("boot-reason", words(reason));
    } else if (root.dataset.state === "running" && isTrap(reason)) {
      defect(reason);
    }
  };
  // Errors of extensions and of the browser are not the page's.
  const isTrap = (reason) =>
    typeof WebAssembly === "object" && reason instanceof WebAssembly.RuntimeError;
  window.patchboardFailed = fail;
  window.patchboardDefect = defect;
  window.addEventListener("error", (event) => fail(event.error || event.message));
  window.addEventListener("unhandledrejection", (event) => fail(event.reason));
  if (typeof WebAssembly !== "object") {
    document.addEventListener("DOMContentLoaded", () => fail("WebAssembly is missing"));
  }
})();
