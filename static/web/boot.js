// Sets the theme before anything is painted, and says on the page when it cannot start.
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

  const fail = (reason) => {
    if (root.dataset.state === "running") return;
    root.dataset.state = "failed";
    const place = document.getElementById("boot-reason");
    if (place) place.textContent = String((reason && reason.message) || reason || "");
  };
  window.patchboardFailed = fail;
  window.addEventListener("error", (event) => fail(event.error || event.message));
  window.addEventListener("unhandledrejection", (event) => fail(event.reason));
  if (typeof WebAssembly !== "object") {
    document.addEventListener("DOMContentLoaded", () => fail("WebAssembly is missing"));
  }
})();
