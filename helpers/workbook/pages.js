// What the exported pages do without a kernel: fold the contents list on narrow screens and follow the reader in it,
// explain a term where the pointer or the focus is, take the guess of an exercise, show all code at once, and let the
// keyboard scroll what is too wide. Nothing is fetched.
(function () {
  "use strict";
  var all = function (css, root) { return Array.prototype.slice.call((root || document).querySelectorAll(css)); };
  var made = function (tag, text, css) {
    var e = document.createElement(tag);
    if (text) { e.textContent = text; }
    if (css) { e.className = css; }
    return e;
  };

  // The contents list: open beside the text, folded above it.
  var list = document.querySelector("nav.contents details");
  if (list) {
    var beside = window.matchMedia("(min-width: 72rem)");
    var fit = function () { list.open = beside.matches; };
    fit();
    beside.addEventListener("change", fit);
    var links = all("a", list), heads = links.map(function (a) { return document.getElementById(decodeURIComponent(a.hash.slice(1))); });
    var mark = function () {
      var at = 0;
      heads.forEach(function (h, i) { if (h && h.getBoundingClientRect().top < 120) { at = i; } });
      links.forEach(function (a, i) {
        if (i === at) { a.setAttribute("aria-current", "true"); } else { a.removeAttribute("aria-current"); }
      });
      if (beside.matches && links[at]) {
        var box = list.parentElement, y = links[at].offsetTop;
        if (y < box.scrollTop + 20 || y > box.scrollTop + box.clientHeight - 40) { box.scrollTop = y - box.clientHeight / 2; }
      }
    };
    var asked = false;
    window.addEventListener("scroll", function () {
      if (!asked) { asked = true; window.requestAnimationFrame(function () { asked = false; mark(); }); }
    }, { passive: true });
    mark();
  }

  // Terms of the glossary: one box, at the term, inside the window; Escape closes it.
  var tip = made("div", "", "tip");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.appendChild(tip);
  var owner = null;
  var hide = function () {
    if (owner) { owner.removeAttribute("aria-describedby"); }
    owner = null;
    tip.hidden = true;
  };
  var show = function (a) {
    hide();
    owner = a;
    tip.textContent = a.getAttribute("data-means");
    tip.hidden = false;
    a.setAttribute("aria-describedby", "tip");
    var at = a.getClientRects()[0], width = document.documentElement.clientWidth;
    var below = at.bottom + 6 + tip.offsetHeight < window.innerHeight;
    tip.style.left = Math.max(8, Math.min(at.left, width - tip.offsetWidth - 8)) + "px";
    tip.style.top = (below ? at.bottom + 6 : Math.max(4, at.top - tip.offsetHeight - 6)) + "px";
  };
  all("a.term").forEach(function (a) {
    a.setAttribute("data-means", a.title);
    a.removeAttribute("title");
    a.addEventListener("mouseenter", function () { show(a); });
    a.addEventListener("focus", function () { show(a); });
    a.addEventListener("mouseleave", hide);
    a.addEventListener("blur", hide);
  });
  document.addEventListener("keydown", function (e) { if (e.key === "Escape") { hide(); } });
  window.addEventListener("scroll", hide, { passive: true });

  // Exercises: the words of the replies come with the page.
  all("[data-exercise]").forEach(function (box, n) {
    var facts = JSON.parse(box.getAttribute("data-exercise")), form = made("form"), choosing = facts.choices.length > 0;
    var inputs = [];
    if (choosing) {
      var set = made("fieldset");
      set.appendChild(made("legend", "Your guess"));
      facts.choices.forEach(function (choice) {
        var label = made("label"), input = made("input");
        input.type = "radio";
        input.name = "guess-" + n;
        input.value = choice;
        label.appendChild(input);
        label.appendChild(document.createTextNode(" " + choice));
        set.appendChild(label);
        inputs.push(input);
      });
      form.appendChild(set);
    } else {
      var label = made("label", "Your guess "), input = made("input");
      input.type = "number";
      input.step = "any";
      input.required = true;
      label.appendChild(input);
      label.appendChild(document.createTextNode(facts.unit ? " " + facts.unit : ""));
      form.appendChild(label);
      inputs.push(input);
    }
    var button = made("button", "Compare"), said = made("p", "", "rc-said");
    said.setAttribute("role", "status");
    form.appendChild(button);
    form.appendChild(said);
    form.addEventListener("submit", function (e) {
      e.preventDefault();
      var guess, which;
      if (choosing) {
        var chosen = inputs.filter(function (i) { return i.checked; })[0];
        if (!chosen) { said.textContent = "Choose one of them first."; return; }
        guess = chosen.value;
        which = guess === facts.answer ? "right" : "wrong";
      } else {
        guess = inputs[0].value;
        var off = Number(guess) - facts.answer;
        which = Math.abs(off) <= facts.close * Math.abs(facts.answer) ? "right" : off < 0 ? "low" : "high";
      }
      said.textContent = facts.replies[which].replace("{guess}", guess);
      box.querySelector("details").open = true;
    });
    box.insertBefore(form, box.querySelector("details"));
  });

  // All code at once.
  var code = all("details.code"), bar = document.querySelector(".top");
  if (code.length && bar) {
    var toggle = made("button", "Show all code", "plain");
    toggle.type = "button";
    toggle.addEventListener("click", function () {
      var open = toggle.textContent === "Show all code";
      code.forEach(function (d) { d.open = open; });
      toggle.textContent = open ? "Fold all code" : "Show all code";
    });
    bar.appendChild(toggle);
  }

  // What is wider than its place scrolls; a table says so, and the keyboard can do it.
  var SCROLLING = "main pre, main .rc-table, main .output_subarea, main .scroll, main .rc-sbs-text, main [style*='overflow']";
  var reach = function () {
    all(SCROLLING).forEach(function (e) {
      var style = getComputedStyle(e), wide = e.scrollWidth > e.clientWidth + 1, tall = e.scrollHeight > e.clientHeight + 1;
      var scrolls = (wide && /auto|scroll/.test(style.overflowX)) || (tall && /auto|scroll/.test(style.overflowY));
      if (scrolls && !e.hasAttribute("tabindex")) { e.tabIndex = 0; }
      var picture = e.matches(".output_png, .output_jpeg, .output_svg") || !!e.querySelector(":scope > img.rc-drawing");
      if (!picture && !e.matches(".rc-table, .scroll")) { return; }
      // Of a figure it is said above: it may be taller than the window.
      var note = picture ? e.previousElementSibling : e.nextElementSibling;
      if (!note || !note.matches(".scroll-note")) {
        note = made("p", "The " + (picture ? "figure" : "table") + " is wider than this page; it scrolls sideways.", "scroll-note");
        e.insertAdjacentElement(picture ? "beforebegin" : "afterend", note);
      }
      note.hidden = !wide;
    });
  };
  reach();
  window.addEventListener("load", reach);
  window.addEventListener("resize", reach);
  all("details").forEach(function (d) { d.addEventListener("toggle", reach); });
})();
