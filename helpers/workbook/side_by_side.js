"use strict";
// Draws the panes of every copy of this output from the data beside it, and links their lines by source line.
document.querySelectorAll('[data-rc-mark="' + mark + '"]').forEach(function (root) {
  if (root.dataset.rcReady) { return; }
  root.dataset.rcReady = "yes";
  var data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  var two = data.sides.length === 2;
  var figure = root.querySelector(".rc-figure");
  var make = function (tag, css, text) {
    var node = document.createElement(tag);
    if (css) { node.className = css; }
    if (text !== undefined) { node.textContent = text; }
    return node;
  };
  var gutter = function (registers, cap) {
    var level = registers > cap ? "over" : registers > 0.75 * cap ? "high" : registers ? "low" : "";
    var node = make("i", level, registers ? String(registers) : "");
    if (registers) { node.title = registers + " registers in use at once (cap " + cap + ")"; }
    return node;
  };
  // The right edge of a pane: dragged, or moved by the arrows, it makes the pane wider; a double click undoes that.
  var grip = function (box, title) {
    var edge = make("div", "rc-sbs-grip"), from = null;
    edge.tabIndex = 0;
    edge.setAttribute("role", "separator");
    edge.setAttribute("aria-orientation", "vertical");
    edge.setAttribute("aria-label", "width of " + title);
    edge.setAttribute("aria-valuemin", "110");
    edge.setAttribute("aria-valuenow", "210");
    edge.title = "drag to change the width of this pane";
    var set = function (width) {
      width = Math.max(110, Math.round(width));
      box.style.flex = "0 0 " + width + "px";
      edge.setAttribute("aria-valuenow", String(width));
    };
    edge.addEventListener("pointerdown", function (event) {
      from = event.clientX - box.getBoundingClientRect().width;
      edge.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    edge.addEventListener("pointermove", function (event) { if (from !== null) { set(event.clientX - from); } });
    edge.addEventListener("pointerup", function () { from = null; });
    edge.addEventListener("dblclick", function () { box.style.flex = ""; });
    edge.addEventListener("keydown", function (event) {
      var step = { ArrowLeft: -40, ArrowRight: 40 }[event.key];
      if (step) { event.preventDefault(); set(box.getBoundingClientRect().width + step); }
    });
    return edge;
  };
  var byKey = {};
  var pane = function (packed, title, fill) {
    var box = make("section", "rc-sbs-pane"), head = make("header", "", title), text = make("div", "rc-sbs-text");
    if (packed.runs.length) { head.append(" ", make("small", "", packed.note)); }
    box.setAttribute("aria-label", title);
    packed.runs.forEach(function (run) {
      var row = make("div", "rc-sbs-run");
      row.dataset.k = run[0];
      row.dataset.r = run[1];
      fill(row, run);
      row.append(make("span", "", run[2] || " "));
      (byKey[run[0]] = byKey[run[0]] || []).push(row);
      text.append(row);
    });
    if (!packed.runs.length) { box.classList.add("empty"); text.append(make("div", "rc-sbs-note", packed.note)); }
    box.append(head, text, grip(box, title));
    return box;
  };
  var panes = make("div", "rc-sbs-panes");
  panes.append(pane(data.source, "source", function (row, run) {
    data.sides.forEach(function (side) { row.append(gutter(side.demand[run[0]] || 0, side.cap)); });
    row.append(make("i", "n", run[0]));
  }));
  var stages = [];
  data.sides.forEach(function (side, number) {
    side.stages.forEach(function (stage) {
      var differs = new Set(data.differing[stage.name] || []);
      var box = pane(stage, stage.name + (two ? " " + "AB"[number] : ""), function (row, run) {
        if (stage.name !== "TTGIR") { row.append(gutter(run[1], side.cap)); }
        if (differs.has(run[0])) { row.classList.add("differs"); }
      });
      box.dataset.stage = stage.name;
      stages.push(box);
      panes.append(box);
    });
  });
  // The source pane's lines are the keyboard's way in: those that became something.
  panes.firstChild.querySelectorAll(".rc-sbs-run").forEach(function (row) {
    if (byKey[row.dataset.k].length > 1) { row.tabIndex = 0; row.setAttribute("role", "button"); }
  });
  var mark_ = function (key, css) {
    root.querySelectorAll("." + css).forEach(function (row) { row.classList.remove(css); });
    if (key) { (byKey[key] || []).forEach(function (row) { row.classList.add(css); }); }
  };
  var said = make("span", "rc-sbs-said");
  said.setAttribute("role", "status");
  var chosen, choose = function (key, from) {
    chosen = key;
    mark_(key, "on");
    var counts = [];
    panes.querySelectorAll(".rc-sbs-pane").forEach(function (box) {
      var text = box.querySelector(".rc-sbs-text"), rows = text.querySelectorAll(".rc-sbs-run.on");
      var lines = 0;
      rows.forEach(function (row) { lines += row.lastChild.textContent.split("\n").length; });
      if (box !== panes.firstChild && !box.hidden) { counts.push(lines + " " + box.getAttribute("aria-label")); }
      if (rows.length && !(from && text.contains(from))) {
        // Of many places, the one where most registers are in use.
        var worst = Array.from(rows).reduce(function (a, b) { return Number(b.dataset.r) > Number(a.dataset.r) ? b : a; });
        text.scrollTop = Math.max(0, worst.offsetTop - 120);
      }
    });
    var peaks = data.sides.map(function (side) { return side.demand[key] || 0; }).join(" and ");
    said.textContent = key ? "line " + key + ": " + peaks + " registers needed; lines: " + counts.join(", ") : "";
  };
  panes.addEventListener("mouseover", function (event) {
    var row = event.target.closest(".rc-sbs-run");
    mark_(row ? row.dataset.k : "", "hover");
  });
  panes.addEventListener("click", function (event) {
    var row = event.target.closest(".rc-sbs-run");
    if (row && row.dataset.k) { choose(row.dataset.k, row); }
  });
  panes.addEventListener("keydown", function (event) {
    var row = event.target.closest(".rc-sbs-run");
    if (row && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      event.stopPropagation();
      choose(row.dataset.k, row);
    }
  });
  // JupyterLab takes plain keys for the notebook: an arrow would leave the list of stages.
  root.addEventListener("keydown", function (event) {
    if (!event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey) { event.stopPropagation(); }
  });
  var bar = make("div", "rc-sbs-bar");
  if (two) {
    var select = document.createElement("select");
    ["TTGIR", "PTX", "SASS"].forEach(function (name) { select.append(new Option(name, name)); });
    select.value = "PTX";
    select.setAttribute("aria-label", "stage to compare");
    var apply = function () {
      stages.forEach(function (box) { box.hidden = box.dataset.stage !== select.value; });
    };
    select.addEventListener("change", apply);
    apply();
    var compare = make("label", "rc-sbs-compare", "compare ");
    compare.append(select);
    bar.append(compare, make("span", "", "A green bar: differs, names of registers aside."));
  }
  // On a narrow screen one pane at a time; the list is there only then.
  var boxes = Array.from(panes.children), which = document.createElement("select"), label = make("label", "rc-sbs-which", "pane ");
  boxes.forEach(function (box, number) { which.append(new Option(box.getAttribute("aria-label"), number)); });
  which.setAttribute("aria-label", "pane to show");
  var turn = function () {
    boxes.forEach(function (box, number) { box.classList.toggle("chosen", number === Number(which.value)); });
    if (chosen !== undefined) { choose(chosen, null); }
  };
  which.addEventListener("change", turn);
  label.append(which);
  bar.append(label);
  bar.append(make("span", "", "Gutter: registers in use. Click a line to see what became of it."), said);
  figure.replaceChildren(bar, panes);
  // Once the page is laid out: a row's place is not known before.
  requestAnimationFrame(function () { choose(data.peak, null); turn(); });
});
