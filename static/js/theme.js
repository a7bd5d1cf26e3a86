// Before the first paint: the theme that was chosen, so that the page does not flash. Not a module, for modules come late.
try {
  document.documentElement.dataset.theme = localStorage.getItem("diptych.theme") || "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}
