// Explorers of an exported page, operated without a kernel: controls, a map, the recorded answer of what is chosen.
// Everything comes with the page (helpers/workbook/explorer/on_page.py); nothing is fetched, and texts are set as text.
(function () {
  "use strict";
  var SVG = "http://www.w3.org/2000/svg";
  var made = function (tag, text, css) {
    var e = document.createElement(tag);
    if (text !== undefined && text !== "") { e.textContent = text; }
    if (css) { e.className = css; }
    return e;
  };
  var drawn = function (tag, facts) {
    var e = document.createElementNS(SVG, tag);
    Object.keys(facts).forEach(function (name) { e.setAttribute(name, facts[name]); });
    return e;
  };
  var coloured = function (e, colours) {
    e.style.background = colours[0];
    e.style.color = colours[1];
    e.classList.toggle("rc-hatched", !!colours[2]);
  };

  // The demand along the PTX: one step a part of the text, what is above the cap in another colour, the cap as a line.
  var profile = function (numbers, cap) {
    var wide = 640, high = 190, left = 44, bottom = 30, top = 10, most = Math.max(cap, Math.max.apply(null, numbers)) * 1.08;
    var x = function (i) { return left + i * (wide - left - 8) / numbers.length; };
    var y = function (n) { return top + (1 - n / most) * (high - top - bottom); };
    var peak = Math.max.apply(null, numbers);
    var svg = drawn("svg", {
      viewBox: "0 0 " + wide + " " + high, role: "img",
      "aria-label": "Demand on registers along the PTX: " + peak + " at the highest, the cap is " + cap + "."
    });
    numbers.forEach(function (n, i) {
      var over = n > cap;
      svg.appendChild(drawn("rect", { x: x(i), y: y(n), width: Math.max(1, x(1) - x(0) - 0.5), height: y(0) - y(n),
                                      "class": over ? "rc-over" : "rc-under" }));
    });
    svg.appendChild(drawn("line", { x1: left, x2: wide - 8, y1: y(cap), y2: y(cap), "class": "rc-cap" }));
    [[left - 6, y(0), "0", "end"], [left - 6, y(cap) + 4, String(cap), "end"], [left - 6, y(peak) + 4, String(peak), "end"],
     [left, high - 8, "start of the PTX", "start"], [wide - 8, high - 8, "end of the PTX", "end"]].forEach(function (t) {
      if (t[2] === String(peak) && Math.abs(y(peak) - y(cap)) < 12) { return; }
      var text = drawn("text", { x: t[0], y: t[1], "text-anchor": t[3] });
      text.textContent = t[2];
      svg.appendChild(text);
    });
    return svg;
  };

  var bars = function (data, rows) {
    var most = Math.max.apply(null, rows.map(function (r) { return r[1] || 0; }).concat([data.end || 0])) || 1;
    var list = made("ul", "", "rc-bars");
    rows.forEach(function (row) {
      var line = made("li"), track = made("span", "", "rc-track");
      line.appendChild(made("span", row[0], "rc-bar-label"));
      if (row[1] !== null) {
        var bar = made("span", "", "rc-bar" + (row[4] ? " rc-hatched" : ""));
        bar.style.width = 100 * row[1] / most + "%";
        bar.style.background = row[2];
        track.appendChild(bar);
      }
      data.marks.forEach(function (m) {
        var mark = made("span", "", "rc-mark");
        mark.style.left = 100 * m[0] / most + "%";
        mark.title = m[1];
        track.appendChild(mark);
      });
      line.appendChild(track);
      line.appendChild(made("span", row[3], "rc-bar-words"));
      list.appendChild(line);
    });
    return list;
  };

  Array.prototype.forEach.call(document.querySelectorAll(".rc-knobs"), function (box, number) {
    var data = JSON.parse(box.querySelector("script").textContent);
    var at = data.knobs.map(function (k) { return k.at; });
    var key = function (places) { return places.map(function (i) { return data.letters[i]; }).join(""); };
    var answer = function (places) { return data.answers[data.states[key(places)]]; };
    var set = function (knob, option) { var other = at.slice(); other[knob] = option; return other; };
    // Whether a map, or a single state, has anything to show.
    var known = function (places) {
      if (!data.grid) { return !!answer(places); }
      var rows = data.knobs[data.grid[0]].options, columns = data.knobs[data.grid[1]].options;
      return rows.some(function (_r, i) {
        return columns.some(function (_c, j) {
          var other = places.slice();
          other[data.grid[0]] = i;
          other[data.grid[1]] = j;
          return !!answer(other);
        });
      });
    };
    var command = function () {
      return data.command.map(function (word) {
        return typeof word === "number" ? data.knobs[word].words[at[word]] : word;
      }).filter(function (word) { return word; }).join(" ");
    };

    var form = made("form", "", "rc-knob-controls"), means = made("p", "", "rc-means");
    form.setAttribute("aria-label", "Controls. " + data.title);
    form.addEventListener("submit", function (e) { e.preventDefault(); });
    var selects = data.knobs.map(function (knob, n) {
      var one = made("div"), label = made("label", knob.label), select = made("select"), told = made("span", knob.means, "rc-told");
      select.id = "knob-" + number + "-" + n;
      told.id = select.id + "-means";
      label.htmlFor = select.id;
      select.setAttribute("aria-describedby", told.id);
      label.title = knob.means;
      knob.options.forEach(function (words, i) { select.appendChild(new Option(words, i)); });
      select.addEventListener("change", function () { at[n] = Number(select.value); show(); });
      select.addEventListener("focus", function () { means.textContent = knob.label + ": " + knob.means; });
      [label, select, told].forEach(function (part) { one.appendChild(part); });
      form.appendChild(one);
      return select;
    });
    var verdict = made("p", "", "rc-verdict");
    verdict.setAttribute("role", "status");
    verdict.setAttribute("aria-live", "polite");

    // The map: a button a cell, one of them in the order of the Tab key, the arrows for the others.
    var cells = [], map = made("div", "", "scroll rc-map");
    if (data.grid) {
      var rows = data.knobs[data.grid[0]], columns = data.knobs[data.grid[1]];
      var table = made("table"), head = made("tr");
      head.appendChild(made("td"));
      columns.options.forEach(function (words) {
        var th = made("th", words);
        th.scope = "col";
        head.appendChild(th);
      });
      table.appendChild(head);
      rows.options.forEach(function (words, i) {
        var line = made("tr"), th = made("th", words);
        th.scope = "row";
        line.appendChild(th);
        cells.push(columns.options.map(function (other, j) {
          var td = made("td"), button = made("button", "", "rc-cell");
          button.type = "button";
          button.addEventListener("click", function () { open(i, j); });
          button.addEventListener("keydown", function (e) {
            var step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
            var next = step && cells[i + step[0]] && cells[i + step[0]][j + step[1]];
            if (step) { e.preventDefault(); }
            if (next) { open(i + step[0], j + step[1]); next.focus(); }
          });
          td.appendChild(button);
          line.appendChild(td);
          return button;
        }));
        table.appendChild(line);
      });
      map.appendChild(table);
    }
    var open = function (i, j) {
      at[data.grid[0]] = i;
      at[data.grid[1]] = j;
      show();
    };
    var legend = made("p", "", "rc-legend");
    data.legend.forEach(function (entry) {
      var one = made("span"), patch = made("span", "", "rc-patch" + (entry[2] ? " rc-hatched" : ""));
      patch.style.background = entry[1];
      one.appendChild(patch);
      one.appendChild(document.createTextNode(" " + entry[0]));
      legend.appendChild(one);
    });

    var figure = made("div", "", "rc-figure"), facts = made("div", "", "scroll rc-facts"), line = made("div", "", "rc-command");
    var field = made("input"), copy = made("button", "Copy command", "plain");
    field.readOnly = true;
    field.setAttribute("aria-label", "the command that compiles this");
    copy.type = "button";
    copy.addEventListener("click", function () {
      field.select();
      var old = function () { document.execCommand("copy"); };
      if (navigator.clipboard) { navigator.clipboard.writeText(field.value).catch(old); } else { old(); }
      copy.textContent = "Copied";
      window.setTimeout(function () { copy.textContent = "Copy command"; }, 1500);
    });
    line.appendChild(field);
    line.appendChild(copy);

    var show = function () {
      selects.forEach(function (select, n) {
        select.value = at[n];
        data.knobs[n].options.forEach(function (words, i) {
          var there = known(set(n, i));
          // Of the option that is chosen the verdict says it.
          select.options[i].textContent = there || i === at[n] ? words : words + " (not recorded)";
          select.options[i].className = there ? "" : "rc-unrecorded";
        });
      });
      cells.forEach(function (buttons, i) {
        buttons.forEach(function (button, j) {
          var places = at.slice();
          places[data.grid[0]] = i;
          places[data.grid[1]] = j;
          var found = answer(places), chosen = i === at[data.grid[0]] && j === at[data.grid[1]];
          var where = data.knobs[data.grid[0]].options[i] + ", " + data.knobs[data.grid[1]].options[j];
          coloured(button, found ? data.grounds[found[2][0]] : data.unrecorded.slice(1).concat([1]));
          button.textContent = found ? found[2][1] : "not recorded";
          button.setAttribute("aria-label", where + ": " + button.textContent);
          button.title = found ? data.texts[found[1]] : where + ": not recorded";
          button.setAttribute("aria-pressed", chosen);
          button.tabIndex = chosen ? 0 : -1;
        });
      });
      var now = answer(at);
      verdict.textContent = now ? data.texts[now[1]] : data.unrecorded[0];
      coloured(verdict, now ? data.statuses[now[0]] : data.unrecorded.slice(1));
      figure.textContent = facts.textContent = "";
      if (now && now[4]) { figure.appendChild(profile(now[4].slice(1), now[4][0])); }
      if (now && now[5].length) {
        figure.appendChild(bars(data, now[5].map(function (n) { return data.bars[n]; })));
        if (data.axis) { figure.appendChild(made("p", data.axis, "rc-axis")); }
      }
      if (now) {
        var table = made("table");
        data.heads.forEach(function (name, n) {
          if (now[3][n] < 0) { return; }
          var row = made("tr"), th = made("th", name);
          th.scope = "row";
          row.appendChild(th);
          row.appendChild(made("td", data.texts[now[3][n]]));
          table.appendChild(row);
        });
        facts.appendChild(table);
      }
      field.value = command();
      line.hidden = !field.value;
      window.dispatchEvent(new Event("resize"));  // what scrolls is marked anew
    };

    var live = made("div", "", "rc-live");
    live.setAttribute("role", "group");
    live.setAttribute("aria-label", data.title);
    [form, means, verdict].forEach(function (part) { live.appendChild(part); });
    if (data.grid) {
      live.appendChild(made("p", data.gridNote, "rc-note"));
      live.appendChild(map);
      live.appendChild(legend);
    }
    [figure, facts, line].forEach(function (part) { live.appendChild(part); });
    box.appendChild(live);
    // What is drawn now stands for the picture of the first view.
    box.querySelector(".rc-still").hidden = true;
    show();
  });
})();
