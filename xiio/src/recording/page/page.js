"use strict";
// Shows the trace that is in the element `trace`. Texts of the program become text nodes and marks on the canvas, never markup.
(() => {
  const ROW = 22, LABELS = 240, LEAF = 22, MAX_LABEL = 300, MAX_STEPS = 300, MAX_ARROWS = 400;
  const by = (id) => document.getElementById(id);

  function fail(error) {
    by("error").textContent = "This recording cannot be shown: " + error;
    by("error").hidden = false;
    document.querySelector("main").hidden = true;
    document.body.dataset.ready = "error";
  }

  let recording;
  try {
    recording = read(JSON.parse(by("trace").textContent));
  } catch (error) {
    fail(error.message);
    return;
  }
  const { members, order, rowOf, end, busy, polls, wakes, cancels, cleanups, reports, cancellations } = recording;

  // ---- The trace as data ----

  /** What a terminal or a reader would obey or not see is shown by a sign of its own. */
  function visible(text, most = MAX_LABEL) {
    const sign = (c) => {
      const code = c.codePointAt(0);
      return code < 32 ? String.fromCodePoint(0x2400 + code) : code === 127 ? "␡" : "\\u{" + code.toString(16) + "}";
    };
    const short = text.length > most ? text.slice(0, most) + "…" : text;
    return short.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, sign);
  }

  /** The same of a text that may have several lines. */
  function visibleLines(text) {
    return text.split("\n").map((line) => visible(line, Infinity)).join("\n");
  }

  function labelOf(args) {
    const what = visible(String(args.what ?? "something")), name = args.name === undefined ? "" : visible(String(args.name));
    if (args.kind === "group" && what === "a group") return name ? "group " + name : "group";
    return name ? (args.kind === "task" ? name : what + " " + name) : what;
  }

  function placeOf(args) {
    return args.file === undefined ? "" : visible(String(args.file)) + ":" + Number(args.line ?? 0);
  }

  function read(trace) {
    const members = [], indexOf = new Map();
    const add = (number, from, to, args) => {
      indexOf.set(number, members.length);
      members.push({
        number, from, to, parent: -1, parentNumber: Number(args.parent ?? 0), depth: 0, kind: String(args.kind ?? ""), label: labelOf(args),
        place: placeOf(args), type: args.type === undefined ? "" : visible(String(args.type)), how: args.end === undefined ? "" : visible(String(args.end)),
        isBegun: args.begun !== false, search: "",
      });
    };
    add(0, 0, 0, { kind: "loop", what: "the loop" });
    let end = 0;
    for (const event of trace.traceEvents) {
      if (event.ph === "M") continue;
      end = Math.max(end, event.ts + (event.ph === "X" ? event.dur : 0));
      if (event.cat === "life" && event.ph === "X" && !indexOf.has(event.tid)) add(event.tid, event.ts, event.ts + event.dur, event.args ?? {});
    }
    end = Math.max(end, Number(trace.otherData.microseconds) || 0, 0.001);
    // A hundred years are less. Where numbers end there is nothing to draw.
    if (!(end < 1e16)) throw new Error("it lasts longer than any recording");
    members[0].to = end;
    // A recording that has lost its oldest events may speak of somebody of whom it has nothing else.
    const memberOf = (number, at) => {
      if (!indexOf.has(number)) add(number, at, end, { kind: "task", what: "somebody (" + number + ")", begun: false });
      return indexOf.get(number);
    };
    const lists = { poll: [], wake: [], cancel: [], cleanup: [], report: [] }, open = new Map();
    for (const event of trace.traceEvents) {
      if (event.ph === "M" || event.cat === "life" || event.cat === "loop") continue;
      const at = event.ts, args = event.args ?? {};
      if (event.cat === "wake") {
        if (event.ph === "s") lists.wake.push({ of: memberOf(Number(args.to), at), at, from: memberOf(event.tid, at), how: visible(String(args.how ?? "")) });
        continue;
      }
      const of = memberOf(event.tid, at);
      if (event.cat === "poll" && event.ph === "X") lists.poll.push({ of, at, to: at + event.dur });
      else if (event.cat === "cancel") {
        const why = visible(String(args.why ?? "")), place = why === "with its group" ? undefined : placeOf(args);
        lists.cancel.push({ of, at, from: memberOf(Number(args.by ?? 0), at), why, reason: why + (place ? " at " + place : "") });
      }
      else if (event.cat === "report") lists.report.push({ of, at, kind: visible(String(args.kind ?? "")), text: visibleLines(String(args.text ?? "").slice(0, 4000)) });
      else if (event.cat === "cleanup" && event.ph === "b") {
        const cleanup = { of, at, to: end, end: ", has not ended", what: visible(event.name), place: placeOf(args) };
        lists.cleanup.push(cleanup);
        open.set(event.id, cleanup);
      } else if (event.cat === "cleanup" && open.has(event.id)) {
        const cleanup = open.get(event.id);
        Object.assign(cleanup, { to: at, end: (args.cut_off === true ? ", was cut off after " : ", took ") + span(at - cleanup.at) });
      }
    }
    const busy = joined(lists.poll);
    const grouped = Object.fromEntries(Object.entries(lists).map(([key, list]) => [key, group(list, members.length)]));
    const order = arrange(members, indexOf), rowOf = new Int32Array(members.length);
    order.forEach((index, row) => { rowOf[index] = row; });
    for (const member of members) member.search = (member.label + " " + member.place + " " + member.type).toLowerCase();
    const n = Object.values(lists).reduce((sum, list) => sum + list.length, 0);
    return {
      members, order, rowOf, end, n, about: aboutOf(trace.otherData), busy, polls: grouped.poll, wakes: grouped.wake, cancels: grouped.cancel, cleanups: grouped.cleanup,
      reports: grouped.report, cancellations: follow(members, lists.cancel, grouped.cleanup),
    };
  }

  /** The time in polls. What is inside of another poll is counted with that: there may be none of the root. */
  function joined(spans) {
    const busy = [];
    for (const { at, to } of [...spans].sort((one, other) => one.at - other.at)) {
      const last = busy[busy.length - 1];
      if (last === undefined || at > last.to) busy.push({ at, to });
      else last.to = Math.max(last.to, to);
    }
    return busy;
  }

  /** What the recording says of itself. It may be anything, and is looked at here, where what is thrown is told. */
  function aboutOf({ program, lost, virtual_microseconds: skipped, note }) {
    return {
      program: visible(String(program ?? "a program")), lost: Number(lost) || 0, skipped: Number(skipped) || 0,
      note: note === undefined ? undefined : visibleLines(String(note)),
    };
  }

  /** A list by member, each part in the order of time. What is inside of another entry ends before it: how far a part reaches is kept. */
  function group(list, nMembers) {
    list.sort((one, other) => one.of - other.of || one.at - other.at);
    list.forEach((entry, place) => {
      const before = list[place - 1], to = entry.to ?? entry.at;
      entry.reach = before?.of === entry.of ? Math.max(before.reach, to) : to;
    });
    const starts = new Uint32Array(nMembers + 1);
    for (const { of } of list) starts[of + 1] += 1;
    for (let index = 0; index < nMembers; index += 1) starts[index + 1] += starts[index];
    return { list, starts };
  }

  /** The members as the tree has them, parents before children. */
  function arrange(members, indexOf) {
    const children = members.map(() => []), roots = [0], order = [], isPlaced = new Uint8Array(members.length);
    members.forEach((member, index) => {
      if (index === 0) return;
      const parent = member.parentNumber === 0 ? -1 : indexOf.get(member.parentNumber) ?? -1;
      if (parent > 0 && parent !== index) { member.parent = parent; children[parent].push(index); } else roots.push(index);
    });
    const place = (root) => {
      const left = [root];
      while (left.length > 0) {
        const index = left.pop();
        if (isPlaced[index]) continue;
        isPlaced[index] = 1;
        order.push(index);
        for (const child of children[index].reverse()) {
          members[child].depth = members[index].depth + 1;
          left.push(child);
        }
      }
    };
    roots.forEach(place);
    // Parents in a circle, which no program has.
    members.forEach((member, index) => { if (!isPlaced[index]) { member.parent = -1; member.depth = 0; place(index); } });
    return order;
  }

  /** The place behind those of a member's entries that are before something. */
  function bisect({ list, starts }, of, isBefore) {
    let low = starts[of], high = starts[of + 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(list[middle])) low = middle + 1; else high = middle;
    }
    return low;
  }

  /**
   * Notes the nearest around each that was cancelled before. From the last cancellation to the first those who have been cancelled become fewer, so
   * what has once led past somebody is short for good: members may be one in the other however deeply.
   */
  function noteAround(members, inTime) {
    const first = new Map(), next = members.map(({ parent }) => parent);
    for (const cancel of inTime) if (!first.has(cancel.of)) first.set(cancel.of, cancel);
    for (const cancel of [...inTime].reverse()) {
      if (first.get(cancel.of) === cancel) first.delete(cancel.of);
      const start = members[cancel.of].parent;
      cancel.around = start;
      while (cancel.around >= 0 && !first.has(cancel.around)) cancel.around = next[cancel.around];
      for (let index = start; index !== cancel.around;) [next[index], index] = [cancel.around, next[index]];
    }
  }

  /** Each cancellation from its cause to its last cleanup. */
  function follow(members, cancels, cleanups) {
    const roots = [], latest = new Map(), inTime = [...cancels].sort((one, other) => one.at - other.at);
    noteAround(members, inTime);
    for (const [place, cancel] of cancels.entries()) cancel.until = cancels[place + 1]?.of === cancel.of ? cancels[place + 1].at : Infinity;
    for (const cancel of inTime) {
      const around = cancel.why === "with its group" ? members[cancel.of].parent : cancel.why === "what is around it was cancelled" ? cancel.around : -1;
      let root = latest.get(around);
      if (root === undefined) {
        root = { at: cancel.at, to: cancel.at, of: cancel.of, why: cancel.why, reason: cancel.reason, from: cancel.from, steps: [], nMembers: 0, nCleanups: 0 };
        roots.push(root);
      }
      latest.set(cancel.of, root);
      // Of a group that was told to cancel its tasks, and of its workers, nothing ends but those; they note that themselves.
      const member = members[cancel.of], isOfTasks = member.kind === "worker" || (member.kind === "group" && cancel.why === "asked for");
      const isWhole = !isOfTasks && !cancel.why.startsWith("a limit");
      root.nMembers += 1;
      root.steps.push({ at: cancel.at, of: cancel.of, text: "cancelled: " + cancel.reason });
      for (let index = bisect(cleanups, cancel.of, ({ at }) => at < cancel.at); index < cleanups.starts[cancel.of + 1]; index += 1) {
        const cleanup = cleanups.list[index];
        if (isOfTasks || cleanup.at >= cancel.until) break;
        // It comes at the end of its group, whenever that is.
        if (!isWhole && cleanup.what === "defer") continue;
        root.nCleanups += 1;
        root.to = Math.max(root.to, cleanup.to);
        const what = "cleanup of " + cleanup.what + (cleanup.place ? ", " + cleanup.place : "");
        root.steps.push({ at: cleanup.at, of: cleanup.of, text: what + cleanup.end });
      }
      if (isWhole && member.how !== "") {
        root.to = Math.max(root.to, member.to);
        root.steps.push({ at: member.to, of: cancel.of, text: "ended: " + member.how });
      }
    }
    roots.forEach((root) => root.steps.sort((one, other) => one.at - other.at));
    return roots;
  }

  // ---- Texts ----

  function span(micros) {
    const of = (value, unit) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0) + " " + unit;
    if (micros === 0) return "0";
    if (micros < 1) return of(micros * 1000, "ns");
    if (micros < 1000) return of(micros, "µs");
    if (micros < 1e6) return of(micros / 1000, "ms");
    return of(micros / 1e6, "s");
  }

  /** A moment, as exact as what is shown. */
  function moment(micros) {
    const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(Math.max(view.to - view.from, 1e-3) / 1e6)) + 3));
    return micros >= 1e6 || view.to - view.from > 1e6 ? (micros / 1e6).toFixed(digits) + " s" : (micros / 1e3).toFixed(Math.max(0, digits - 3)) + " ms";
  }

  const count = (n, one, many = one + "s") => n.toLocaleString("en") + " " + (n === 1 ? one : many);

  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    const { text, ...rest } = options;
    if (text !== undefined) element.textContent = text;
    Object.assign(element, rest);
    element.append(...children);
    return element;
  }

  // ---- What is shown ----

  const view = { from: 0, to: end, cursor: 0, chosen: -1, cancellation: -1, matches: null, match: -1 };
  const isNarrow = matchMedia("(max-width: 860px)");
  let colors = {}, isDue = false;

  function readColors() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["sheet", "ink", "faint", "line", "row", "life", "poll", "cleanup", "cancel", "report", "wake", "cursor", "chosen", "match", "paper"]) {
      colors[name] = style.getPropertyValue("--" + name).trim();
    }
  }

  /** Draws once a frame, however often it is asked for. */
  function redraw() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      const begun = performance.now();
      drawTimeline();
      drawOverview();
      drawTree();
      document.body.dataset.frame = (performance.now() - begun).toFixed(1);
    });
  }

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const labelWidth = () => isNarrow.matches ? 130 : LABELS;

  /** A canvas of the size that it has on the screen, cleared. */
  function prepare(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  /** The first of a member's entries that has not ended at a moment. */
  function firstAt(entries, of, at) {
    return bisect(entries, of, ({ reach }) => reach < at);
  }

  function drawTimeline() {
    const rows = by("rows"), canvas = by("timeline"), width = rows.clientWidth, height = rows.clientHeight;
    canvas.style.height = height + "px";
    by("height").style.height = Math.max(0, order.length * ROW + ROW - height) + "px";
    const pen = prepare(canvas, width, height), left = labelWidth(), top = rows.scrollTop;
    const scale = (width - left) / (view.to - view.from), xOf = (at) => left + (at - view.from) * scale;
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    pen.textBaseline = "middle";
    const first = Math.floor(top / ROW), last = Math.min(order.length - 1, first + Math.ceil(height / ROW));
    for (let row = first; row <= last; row += 1) drawBack(pen, row, row * ROW - top + ROW, width);
    drawGrid(pen, left, width, height, scale);
    if (view.cancellation >= 0) drawBand(pen, cancellations[view.cancellation], xOf, left, height);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width - left, height);
    pen.clip();
    for (let row = first; row <= last; row += 1) drawRow(pen, order[row], row * ROW - top + ROW, xOf, left, width);
    if (view.chosen >= 0) drawArrows(pen, xOf, top);
    pen.restore();
    for (let row = first; row <= last; row += 1) drawLabel(pen, order[row], row * ROW - top + ROW, left);
    drawRuler(pen, left, width, scale);
    const x = xOf(view.cursor);
    if (x >= left) {
      pen.fillStyle = colors.cursor;
      pen.fillRect(Math.round(x), 0, 1, height);
    }
  }

  const isDimmed = (index) => view.matches !== null && !view.matches.has(index);

  function drawBack(pen, row, y, width) {
    const index = order[row];
    const fill = index === view.chosen ? colors.chosen : view.matches?.has(index) ? colors.match : row % 2 === 1 ? colors.row : colors.paper;
    pen.fillStyle = fill;
    pen.fillRect(0, y, width, ROW);
  }

  function drawLabel(pen, index, y, left) {
    const member = members[index], indent = 10 + Math.min(member.depth, 12) * 11;
    pen.save();
    pen.beginPath();
    pen.rect(0, Math.max(y, ROW), left - 6, ROW);
    pen.clip();
    pen.globalAlpha = isDimmed(index) ? 0.4 : 1;
    pen.fillStyle = colors.ink;
    pen.fillText(member.label, indent, y + ROW / 2);
    if (member.place) {
      pen.fillStyle = colors.faint;
      // The whole of it is with what is selected.
      pen.fillText(member.place.slice(member.place.lastIndexOf("/") + 1), indent + pen.measureText(member.label).width + 8, y + ROW / 2);
    }
    pen.restore();
  }

  function drawRow(pen, index, y, xOf, left, width) {
    const member = members[index], middle = y + ROW / 2;
    pen.globalAlpha = isDimmed(index) ? 0.3 : 1;
    if (index > 0) {
      const x = Math.max(xOf(member.from), left - 2), to = Math.min(xOf(member.to), width + 2);
      if (to >= left && x <= width) {
        pen.fillStyle = colors.life;
        pen.fillRect(x, middle - 3, Math.max(to - x, 1), 6);
      }
    }
    drawSpans(pen, cleanups, index, middle - 7, 14, colors.cleanup, xOf, width, 0.55);
    drawSpans(pen, polls, index, middle - 5, 10, colors.poll, xOf, width, 1);
    drawMarks(pen, cancels, index, xOf, width, (x) => {
      pen.fillStyle = colors.cancel;
      pen.beginPath();
      pen.moveTo(x - 5, y + 2);
      pen.lineTo(x + 5, y + 2);
      pen.lineTo(x, y + 10);
      pen.fill();
    });
    drawMarks(pen, reports, index, xOf, width, (x) => {
      pen.fillStyle = colors.report;
      pen.beginPath();
      pen.moveTo(x, middle - 6);
      pen.lineTo(x + 5, middle);
      pen.lineTo(x, middle + 6);
      pen.lineTo(x - 5, middle);
      pen.fill();
    });
    pen.globalAlpha = 1;
  }

  /** No more spans than there are pixels: those that fall on one that is painted already are skipped by halving. */
  function drawSpans(pen, spans, index, y, height, color, xOf, width, alpha) {
    const { list, starts } = spans, stop = starts[index + 1];
    if (starts[index] === stop) return;
    const before = pen.globalAlpha;
    pen.globalAlpha = before * alpha;
    pen.fillStyle = color;
    const step = (view.to - view.from) / Math.max(width, 1);
    for (let at = firstAt(spans, index, view.from); at < stop && list[at].at <= view.to;) {
      const x = xOf(list[at].at), to = Math.max(xOf(list[at].to), x + 1);
      pen.fillRect(x, y, to - x, height);
      const next = firstAt(spans, index, list[at].at + Math.max(step, list[at].to - list[at].at));
      at = Math.max(next, at + 1);
    }
    pen.globalAlpha = before;
  }

  function drawMarks(pen, marks, index, xOf, width, draw) {
    const { list, starts } = marks;
    let before = -Infinity;
    for (let at = firstAt(marks, index, view.from); at < starts[index + 1] && list[at].at <= view.to; at += 1) {
      const x = xOf(list[at].at);
      if (x - before < 1) continue;
      before = x;
      draw(x);
    }
  }

  /** Who woke the one that is selected. */
  function drawArrows(pen, xOf, top) {
    const { list, starts } = wakes;
    let n = 0;
    pen.strokeStyle = pen.fillStyle = colors.wake;
    pen.lineWidth = 1.3;
    for (let at = firstAt(wakes, view.chosen, view.from); at < starts[view.chosen + 1] && list[at].at <= view.to && n < MAX_ARROWS; at += 1, n += 1) {
      // A poll that goes on has not come of it.
      const wake = list[at], poll = polls.list[bisect(polls, view.chosen, (poll) => poll.at < wake.at)];
      const x = xOf(wake.at), y = rowOf[wake.from] * ROW - top + ROW * 1.5, to = rowOf[view.chosen] * ROW - top + ROW * 1.5;
      const landing = poll !== undefined && poll.of === view.chosen ? xOf(poll.at) : x;
      const side = to > y ? -1 : 1, tip = to + side * 6;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.bezierCurveTo(x, (y + tip) / 2, landing, (y + tip) / 2, landing, tip);
      pen.stroke();
      pen.beginPath();
      pen.moveTo(landing - 3.5, tip + side * 4);
      pen.lineTo(landing + 3.5, tip + side * 4);
      pen.lineTo(landing, tip);
      pen.fill();
    }
  }

  function drawBand(pen, cancellation, xOf, left, height) {
    const x = Math.max(xOf(cancellation.at), left), to = Math.max(xOf(cancellation.to), x + 2);
    pen.globalAlpha = 0.12;
    pen.fillStyle = colors.cancel;
    pen.fillRect(x, ROW, to - x, height);
    pen.globalAlpha = 1;
  }

  /** Round distances between the lines of the grid, about a hundred pixels each. */
  function ticks(scale) {
    const rough = 110 / scale, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
    const found = [];
    for (let at = Math.ceil(view.from / step) * step; at <= view.to && found.length < 100; at += step) found.push(at);
    return found;
  }

  function drawGrid(pen, left, width, height, scale) {
    pen.fillStyle = colors.line;
    for (const at of ticks(scale)) pen.fillRect(Math.round(left + (at - view.from) * scale), ROW, 1, height);
    pen.fillRect(left - 1, 0, 1, height);
  }

  function drawRuler(pen, left, width, scale) {
    pen.fillStyle = colors.sheet;
    pen.fillRect(0, 0, width, ROW);
    pen.fillStyle = colors.line;
    pen.fillRect(0, ROW - 1, width, 1);
    pen.fillStyle = colors.faint;
    for (const at of ticks(scale)) pen.fillText(moment(at), left + (at - view.from) * scale + 4, ROW / 2);
  }

  /** How much of the time is spent in polls, and where in it the timeline is. */
  let density = null;
  function drawOverview() {
    const canvas = by("overview"), width = canvas.clientWidth, height = canvas.clientHeight, left = labelWidth();
    const pen = prepare(canvas, width, height), inner = width - left;
    if (inner <= 0) return;
    if (density === null || density.length !== Math.ceil(inner)) density = measure(Math.ceil(inner));
    pen.fillStyle = colors.poll;
    density.forEach((part, x) => { if (part > 0) { const tall = Math.max(2, part * (height - 8)); pen.fillRect(left + x, height - tall, 1, tall); } });
    pen.fillStyle = colors.cancel;
    for (const { at } of cancellations) pen.fillRect(left + (at / end) * inner, 0, 1, 7);
    const from = left + (view.from / end) * inner, to = left + (view.to / end) * inner;
    pen.globalAlpha = 0.16;
    pen.fillStyle = colors.ink;
    pen.fillRect(left, 0, from - left, height);
    pen.fillRect(to, 0, width - to, height);
    pen.globalAlpha = 1;
    pen.strokeStyle = colors.poll;
    pen.strokeRect(from + 0.5, 0.5, Math.max(to - from - 1, 2), height - 1);
    pen.fillStyle = colors.cursor;
    pen.fillRect(left + (view.cursor / end) * inner, 0, 1, height);
    pen.fillStyle = colors.faint;
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    pen.textBaseline = "middle";
    pen.fillText("time in polls", 10, height / 2);
  }

  function measure(nParts) {
    const parts = new Float64Array(nParts), width = end / nParts;
    for (const { at, to } of busy) {
      for (let part = clamp(Math.floor(at / width), 0, nParts - 1); part < nParts && part * width < to; part += 1) {
        parts[part] += Math.max(0, Math.min(to, (part + 1) * width) - Math.max(at, part * width)) / width;
      }
    }
    return parts.map((part) => Math.min(part, 1));
  }

  // ---- The tree at the cursor ----

  let alive = [], aliveAt = -1;

  function stateOf(index, at) {
    const inside = (spans) => {
      const found = spans.list[firstAt(spans, index, at)];
      return found !== undefined && found.of === index && found.at <= at;
    };
    if (inside(polls)) return ["polled", "is polled"];
    if (inside(cleanups)) return ["cleaning", "cleans up"];
    const last = lastBefore(polls, index, at), woken = lastBefore(wakes, index, at);
    if (woken !== undefined && (last === undefined || woken.at >= last.at)) return ["woken", "woken"];
    if (last === undefined && members[index].isBegun) return ["fresh", "not started"];
    return ["waiting", "waits"];
  }

  function lastBefore(entries, of, at) {
    const place = bisect(entries, of, (entry) => entry.at <= at);
    return place > entries.starts[of] ? entries.list[place - 1] : undefined;
  }

  function drawTree() {
    if (aliveAt !== view.cursor) {
      aliveAt = view.cursor;
      alive = order.filter((index) => index > 0 && members[index].from <= view.cursor && view.cursor <= members[index].to);
      by("cursor-time").textContent = moment(view.cursor) + " · " + count(alive.length, "member");
    }
    const tree = by("tree"), first = Math.max(0, Math.floor(tree.scrollTop / LEAF) - 5);
    by("tree-height").style.height = alive.length * LEAF + "px";
    const leaves = alive.slice(first, first + Math.ceil(tree.clientHeight / LEAF) + 10).map((index, n) => {
      const [state, words] = stateOf(index, view.cursor), member = members[index];
      const chosen = index === view.chosen ? " chosen" : view.matches?.has(index) ? " match" : "";
      const leaf = make("button", { className: "leaf " + state + chosen, tabIndex: -1 }, make("b", { text: member.label }), make("i", { text: words }));
      leaf.setAttribute("role", "treeitem");
      leaf.setAttribute("aria-level", String(member.depth + 1));
      leaf.setAttribute("aria-selected", String(index === view.chosen));
      leaf.style.top = (first + n) * LEAF + "px";
      leaf.style.paddingLeft = 14 + Math.min(member.depth, 14) * 12 + "px";
      leaf.title = member.place;
      leaf.addEventListener("click", () => choose(index));
      return leaf;
    });
    tree.replaceChildren(by("tree-height"), ...leaves);
  }

  // ---- What is selected ----

  const link = (index, text = members[index].label) => make("button", { className: "link", text, onclick: () => { choose(index); reveal(index); } });
  const goTo = (at, text) => make("button", { className: "link mono", text, onclick: () => moveTo(at) });

  function pairs(list) {
    const dl = make("dl");
    for (const [name, value] of list) if (value !== "" && value !== undefined) dl.append(make("dt", { text: name }), make("dd", {}, value));
    return dl;
  }

  function showMember() {
    const index = view.chosen, member = members[index], detail = by("detail");
    const own = polls.list.slice(polls.starts[index], polls.starts[index + 1]), total = own.reduce((sum, poll) => sum + poll.to - poll.at, 0);
    const longest = own.reduce((most, poll) => most === undefined || poll.to - poll.at > most.to - most.at ? poll : most, undefined);
    const woken = wakes.list.slice(wakes.starts[index], wakes.starts[index + 1]), causes = new Map();
    for (const { from, how } of woken) {
      const key = from > 0 ? from : how;
      causes.set(key, (causes.get(key) ?? 0) + 1);
    }
    const wakers = make("span");
    [...causes].sort((one, other) => other[1] - one[1]).slice(0, 5).forEach(([key, n]) => {
      if (wakers.childNodes.length > 0) wakers.append(", ");
      wakers.append(typeof key === "number" ? (key === index ? "itself" : link(key)) : key, n > 1 ? " " + n + "×" : "");
    });
    if (causes.size > 5) wakers.append(" and " + count(causes.size - 5, "other"));
    detail.replaceChildren(
      make("p", {}, make("strong", { text: member.label })),
      pairs([
        ["place", member.place && make("span", { className: "mono", text: member.place })],
        ["in", member.parent >= 0 ? link(member.parent) : ""],
        ["lived", make("span", {}, goTo(member.from, moment(member.from)), member.isBegun ? "" : " or before", " for " + span(member.to - member.from))],
        ["ended", member.how || (index > 0 ? "not yet" : "")],
        ["polls", own.length > 0 ? make("span", {}, own.length.toLocaleString("en") + ", " + span(total) + " in all, the longest ", goTo(longest.at, span(longest.to - longest.at))) : "none"],
        ["woken by", causes.size > 0 ? wakers : ""],
        ["type", member.type && make("span", { className: "mono faint", text: member.type })],
      ]),
    );
    for (let at = cancels.starts[index]; at < cancels.starts[index + 1]; at += 1) {
      const cancel = cancels.list[at];
      detail.append(make("p", {}, "cancelled at ", goTo(cancel.at, moment(cancel.at)), ": " + cancel.reason, ...(cancel.from > 0 && cancel.from !== index ? [", in a poll of ", link(cancel.from)] : [])));
    }
    for (let at = reports.starts[index]; at < reports.starts[index + 1]; at += 1) {
      const report = reports.list[at];
      detail.append(make("p", {}, goTo(report.at, moment(report.at)), " " + report.kind + ": " + report.text));
    }
  }

  function showCancellation() {
    const { at, to, of, reason, from, steps, nMembers, nCleanups } = cancellations[view.cancellation];
    const list = make("ol", { className: "steps" });
    for (const step of steps.slice(0, MAX_STEPS)) {
      list.append(make("li", {}, make("time", { text: "+" + span(step.at - at) }), link(step.of), " " + step.text));
    }
    if (steps.length > MAX_STEPS) list.append(make("li", { className: "faint", text: "and " + count(steps.length - MAX_STEPS, "more step", "more steps") }));
    by("detail").replaceChildren(
      make("p", {}, make("strong", {}, "Cancelled: ", link(of)), ", " + reason + (from > 0 && from !== of ? ", in a poll of " : ""), ...(from > 0 && from !== of ? [link(from)] : [])),
      pairs([["cost", make("span", { className: "mono", text: span(to - at) })], ["took along", count(nMembers, "cancellation") + ", " + count(nCleanups, "cleanup")]]),
      list,
    );
  }

  function say() {
    const member = view.chosen >= 0 ? members[view.chosen] : null;
    const state = member === null ? "" : view.cursor < member.from ? "is not there yet" : view.cursor > member.to ? "has ended" : stateOf(view.chosen, view.cursor)[1];
    by("status").textContent = moment(view.cursor) + (member === null ? "" : " · " + member.label + " " + state + (member.place ? " · " + member.place : ""));
  }

  function choose(index) {
    view.chosen = index;
    view.cancellation = -1;
    markCancellation();
    if (index >= 0) showMember(); else by("detail").replaceChildren(make("p", { className: "faint", text: "Nothing. Click a row, or press the arrows." }));
    say();
    redraw();
  }

  /** Scrolls to a row. */
  function reveal(index) {
    const rows = by("rows"), y = rowOf[index] * ROW;
    if (y < rows.scrollTop || y + 2 * ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = Math.max(0, y - rows.clientHeight / 2);
  }

  function moveTo(at) {
    view.cursor = clamp(at, 0, end);
    const width = view.to - view.from;
    if (view.cursor < view.from || view.cursor > view.to) show(view.cursor - width / 2, view.cursor + width / 2);
    say();
    redraw();
  }

  function show(from, to) {
    const width = clamp(to - from, Math.min(0.05, end), end);
    view.from = clamp(from, 0, end - width);
    view.to = view.from + width;
    redraw();
  }

  function zoom(factor, around = view.cursor) {
    const at = clamp(around, view.from, view.to);
    show(at - (at - view.from) * factor, at + (view.to - at) * factor);
  }

  function step(by) {
    const row = view.chosen < 0 ? (by > 0 ? 0 : order.length - 1) : clamp(rowOf[view.chosen] + by, 0, order.length - 1);
    choose(order[row]);
    reveal(order[row]);
  }

  /** To the beginning of the poll before or after the cursor: of the one that is selected, or else of the root. */
  function stepPoll(direction) {
    const of = view.chosen >= 0 ? view.chosen : order.find((index) => polls.starts[index + 1] > polls.starts[index]);
    if (of === undefined) return;
    const next = direction < 0 ? bisect(polls, of, ({ at }) => at < view.cursor) - 1 : bisect(polls, of, ({ at }) => at <= view.cursor);
    if (next >= polls.starts[of] && next < polls.starts[of + 1]) moveTo(polls.list[next].at);
  }

  // ---- Search ----

  function search() {
    const wanted = by("search").value.trim().toLowerCase();
    view.match = -1;
    view.matches = wanted === "" ? null : new Set(order.filter((index) => members[index].search.includes(wanted)));
    by("matches").textContent = view.matches === null ? "" : count(view.matches.size, "match", "matches");
    redraw();
  }

  function nextMatch(direction) {
    const found = view.matches === null ? [] : [...view.matches];
    if (found.length === 0) return;
    view.match = (view.match + direction + found.length + (view.match < 0 && direction < 0 ? 1 : 0)) % found.length;
    const index = found[view.match], { from, to } = members[index];
    choose(index);
    reveal(index);
    if (view.cursor < from || view.cursor > to) moveTo(from);
    by("matches").textContent = view.match + 1 + " of " + found.length;
  }

  // ---- Cancellations ----

  function listCancellations() {
    const list = by("cancellations");
    by("n-cancellations").textContent = String(cancellations.length);
    if (cancellations.length === 0) list.append(make("li", { className: "none", text: "Nothing was cancelled." }));
    const costly = cancellations.map((_, index) => index).slice(0, 2000);
    for (const index of costly) {
      const { at, to, of, reason, nMembers, nCleanups } = cancellations[index];
      const what = nMembers + nCleanups > 1 ? " · " + count(nMembers, "cancellation") + ", " + count(nCleanups, "cleanup") : "";
      const button = make("button", { onclick: () => chooseCancellation(index) }, make("span", { className: "cost", text: span(to - at) }), make("strong", { text: members[of].label }), make("br"), make("span", { className: "faint", text: moment(at) + " · " + reason + what }));
      list.append(make("li", {}, button));
    }
    if (cancellations.length > costly.length) list.append(make("li", { className: "none", text: "and " + (cancellations.length - costly.length).toLocaleString("en") + " more" }));
  }

  function markCancellation() {
    [...by("cancellations").querySelectorAll("button")].forEach((button, index) => button.classList.toggle("chosen", index === view.cancellation));
  }

  function chooseCancellation(index) {
    const { at, to, of } = cancellations[index];
    choose(of);
    view.cancellation = index;
    markCancellation();
    by("cancellations").querySelectorAll("button")[index]?.scrollIntoView({ block: "nearest" });
    showCancellation();
    reveal(of);
    const width = Math.max(to - at, (view.to - view.from) / 1000, 1);
    view.cursor = at;
    show(at - width * 0.25, to + width * 0.25);
    say();
  }

  // ---- Mouse and keys ----

  function timeAt(event) {
    const box = by("timeline").getBoundingClientRect(), left = labelWidth();
    return view.from + ((event.clientX - box.left - left) / (box.width - left)) * (view.to - view.from);
  }

  function drag(element, onMove) {
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      onMove(event, true);
    });
    element.addEventListener("pointermove", (event) => { if (element.hasPointerCapture(event.pointerId)) onMove(event, false); });
  }

  drag(by("timeline"), (event, isFirst) => {
    const box = by("timeline").getBoundingClientRect(), row = Math.floor((event.clientY - box.top - ROW + by("rows").scrollTop) / ROW);
    if (isFirst && event.clientY - box.top >= ROW && row < order.length) choose(order[row]);
    if (event.clientX - box.left >= labelWidth()) moveTo(clamp(timeAt(event), view.from, view.to));
  });

  drag(by("overview"), (event) => {
    const box = by("overview").getBoundingClientRect(), left = labelWidth(), width = view.to - view.from;
    const at = ((event.clientX - box.left - left) / (box.width - left)) * end;
    show(at - width / 2, at + width / 2);
  });

  by("rows").addEventListener("wheel", (event) => {
    const width = view.to - view.from;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(1.0015 ** event.deltaY, timeAt(event));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = ((event.deltaX || event.deltaY) / 800) * width;
      show(view.from + by, view.to + by);
    }
  }, { passive: false });

  const keys = {
    ArrowLeft: (event) => event.shiftKey ? stepPoll(-1) : moveTo(view.cursor - (view.to - view.from) / 100),
    ArrowRight: (event) => event.shiftKey ? stepPoll(1) : moveTo(view.cursor + (view.to - view.from) / 100),
    ArrowUp: () => step(-1),
    ArrowDown: () => step(1),
    "+": () => zoom(1 / 1.6),
    "=": () => zoom(1 / 1.6),
    "-": () => zoom(1.6),
    "0": () => show(0, end),
    Home: () => moveTo(0),
    End: () => moveTo(end),
    "/": () => by("search").focus(),
    n: () => nextMatch(1),
    N: () => nextMatch(-1),
    c: () => { if (cancellations.length > 0) chooseCancellation((view.cancellation + 1) % cancellations.length); },
    C: () => { if (cancellations.length > 0) chooseCancellation((Math.max(view.cancellation, 0) - 1 + cancellations.length) % cancellations.length); },
    "?": () => by("help").showModal(),
    Escape: () => { by("search").value = ""; search(); choose(-1); },
  };

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target === by("search");
    if (by("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping && event.key === "Enter") return nextMatch(event.shiftKey ? -1 : 1);
    if (isTyping && event.key !== "Escape") return;
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    if (act === undefined) return;
    event.preventDefault();
    act(event);
    if (isTyping) by("rows").focus();
  });

  by("search").addEventListener("input", search);
  by("rows").addEventListener("scroll", redraw);
  by("tree").addEventListener("scroll", redraw);
  by("zoom-in").addEventListener("click", () => zoom(1 / 1.6));
  by("zoom-out").addEventListener("click", () => zoom(1.6));
  by("fit").addEventListener("click", () => show(0, end));
  by("show-help").addEventListener("click", () => by("help").showModal());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); redraw(); });
  new ResizeObserver(redraw).observe(by("rows"));
  new ResizeObserver(redraw).observe(by("tree"));

  // ---- The beginning ----

  const { n, about: { program, lost, skipped, note } } = recording;
  by("program").textContent = program;
  document.title = program + ": a recording of xiio";
  by("summary").textContent = [span(end), count(members.length - 1, "member"), count(n, "event"), skipped > 0 ? span(skipped) + " skipped by virtual time" : "", lost > 0 ? lost.toLocaleString("en") + " older events were not kept" : ""].filter((part) => part !== "").join(" · ");
  if (note !== undefined) {
    by("note").textContent = note;
    by("note").hidden = false;
  }
  readColors();
  listCancellations();
  choose(-1);
  begin();

  /** A failure is looked at where it happened: a cancellation by a test, the first panic of a task, or that of the whole. */
  function begin() {
    const byTest = cancellations.findIndex(({ why }) => why.startsWith("the test"));
    const panicked = order.filter((index) => members[index].how === "a panic").sort((one, other) => members[one].to - members[other].to)[0];
    const panic = reports.list.find(({ kind }) => kind === "Panic");
    if (byTest >= 0) return chooseCancellation(byTest);
    if (panicked !== undefined) {
      choose(panicked);
      reveal(panicked);
      return moveTo(members[panicked].to);
    }
    moveTo(panic !== undefined ? panic.at : note === undefined ? end / 2 : end);
  }
  document.body.dataset.ready = "yes";
})();
