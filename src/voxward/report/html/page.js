// What the page does by itself: the download of its figures. Charts and the viewer have scripts of their own.
"use strict";

/** Give a reader a file that this page holds. */
function saveFile(name, kind, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.getElementById("download-data").addEventListener("click", () => {
  saveFile("report.json", "application/json", document.getElementById("data").textContent);
});

// Paper cannot be opened: what is folded on the screen is printed as a whole, but for the licences.
addEventListener("beforeprint", () => {
  document.querySelectorAll("main details:not(.screen-only)").forEach((part) => { part.open = true; });
});
