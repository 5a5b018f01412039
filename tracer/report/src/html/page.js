"use strict";
// Details: a link opens what it leads to, paper has everything, and a page that loads itself again keeps what is open.
const details = [...document.querySelectorAll("details")];
const nameOf = one => location.pathname + "#" + one.parentElement.id;
const keep = one => {
  try { if (one.open) sessionStorage.setItem(nameOf(one), "1"); else sessionStorage.removeItem(nameOf(one)); } catch { /* no storage */ }
};
for (const one of details) {
  try { one.open = sessionStorage.getItem(nameOf(one)) !== null; } catch { /* no storage */ }
  one.addEventListener("toggle", () => keep(one));
}
const lead = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const one = target && target.querySelector(":scope > details");
  if (one) {
    one.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", lead);
lead();
addEventListener("beforeprint", () => details.forEach(one => { one.open = true; }));
// Tables: a click, or Enter on a heading, sorts by that column; once more the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, column = heading.cellIndex, table = heading.closest("table");
    const first = heading.classList.contains("n") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = table.tBodies[0], sign = order === "ascending" ? 1 : -1;
    const key = row => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    const compare = (a, b) => {
      // What has no number comes last, whichever way.
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
    };
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  });
}
// Plots: values under the pointer, or with the arrow keys while the plot has the focus.
const tip = document.getElementById("tip");
const show = (mark, x, y) => {
  tip.textContent = mark.dataset.t;
  tip.hidden = false;
  const right = Math.max(0, innerWidth - tip.offsetWidth - 8), below = Math.max(0, innerHeight - tip.offsetHeight - 8);
  tip.style.left = Math.min(x + 14, right) + "px";
  tip.style.top = Math.min(y + 14, below) + "px";
};
for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll(".at")];
  let now = -1;
  const leave = () => {
    tip.hidden = true;
    if (now >= 0) marks[now].classList.remove("now");
  };
  const words = mark => {
    // The browser's own tip would come a second later, on top.
    const title = mark.querySelector("title");
    if (title) {
      mark.dataset.t = title.textContent;
      title.remove();
    }
  };
  marks.forEach(words);
  svg.addEventListener("pointermove", event => {
    const mark = event.target.closest(".at");
    if (mark) show(mark, event.clientX, event.clientY); else tip.hidden = true;
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -marks.length, End: marks.length }[event.key];
    if (event.key === "Escape") leave();
    if (step === undefined || marks.length === 0) return;
    event.preventDefault();
    leave();
    now = Math.min(Math.max(now + step, 0), marks.length - 1);
    marks[now].classList.add("now");
    const box = marks[now].getBoundingClientRect();
    show(marks[now], box.x + box.width / 2, box.y + Math.min(box.height, 40));
  });
}
