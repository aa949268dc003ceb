// Keys: those that buttons name, and arrows through the claims. Off in fields, and with a modifier.
"use strict";

let at = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, textarea, select")) return;
  const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
  if (step) {
    const claims = document.querySelectorAll("article[id^='claim-']");
    if (claims.length === 0) return;
    at = Math.min(Math.max(at + step, 1), claims.length);
    location.replace(`#claim-${at}`);
    event.preventDefault();
    return;
  }
  const button = [...document.querySelectorAll("button[data-key]")].find((one) => one.dataset.key === event.key);
  if (button) {
    event.preventDefault();
    button.click();
  }
});
