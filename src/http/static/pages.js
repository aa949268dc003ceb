// Keys, arrows through the claims, questions before what cannot be undone, and drafts. Without this file every form still works.
"use strict";

let at = 0;
const drafts = "draft ";

function isTyping(target) {
  return target.closest("input, textarea, select, dialog[open]") !== null;
}

function step(by) {
  const claims = document.querySelectorAll("article[id^='claim-']");
  if (claims.length === 0) return;
  at = Math.min(Math.max(at + by, 1), claims.length);
  location.replace(`#claim-${at}`);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches("input, textarea")) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
  const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
  const button = [...document.querySelectorAll("button[data-key]")].find((one) => one.dataset.key === event.key);
  if (by) step(by);
  else if (event.key === "?") document.getElementById("keys").showModal();
  else if (button) button.click();
  else return;
  event.preventDefault();
});

document.addEventListener("submit", (event) => {
  if (event.target.matches(".who")) forget();
  const question = event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

// What is typed outlives a session that ends, a page that is left and a store that is away; it goes once a label is taken.
document.addEventListener("input", (event) => {
  if (event.target.matches("form.label textarea")) sessionStorage.setItem(drafts + event.target.form.action + event.target.name, event.target.value);
});

// Also when somebody signs out: who comes next must not read it.
function forget() {
  Object.keys(sessionStorage).filter((key) => key.startsWith(drafts)).forEach((key) => sessionStorage.removeItem(key));
}

function arrive() {
  at = 0;
  if (document.querySelector("[data-saved]")) forget();
  for (const field of document.querySelectorAll("form.label textarea")) {
    field.value ||= sessionStorage.getItem(drafts + field.form.action + field.name) ?? "";
  }
}

arrive();
// An answer that is no overview, such as that the store is away, must not take the place of the last one.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.target.id !== "live" || event.detail.xhr.response.includes('id="live"')) return;
  event.detail.shouldSwap = false;
  if (event.detail.xhr.status < 400) location.reload();
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id !== "main") return;
  arrive();
  event.target.focus({ preventScroll: true });
});
