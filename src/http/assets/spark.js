"use strict";
// Spark lines: what a value did since the page was opened. Each keeps a fixed number of points; when they are used up, every second one goes
// and from then on every second one is taken, so that the line always begins where the page did.

const POINTS = 120;
const AREA_FLOOR = 60;
const SPARK_WIDTH = 240, SPARK_HEIGHT = 26, SPARK_EDGE = 2;

class Spark {
  constructor(area) {
    this.points = [];
    this.step = 0;
    this.area = area;
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.svg.setAttribute("viewBox", `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("class", area ? "queue" : "spark");
    this.svg.setAttribute("aria-hidden", "true");
    this.path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    this.svg.append(this.path);
  }

  // A value at a time in milliseconds; null breaks the line.
  add(at, value) {
    const last = this.points[this.points.length - 1];
    if (last && at - last.at < this.step) {
      last.value = value;
      return;
    }
    this.points.push({ at, value });
    if (this.points.length > POINTS) {
      const span = this.points[this.points.length - 1].at - this.points[0].at;
      this.step = span / (POINTS / 2);
      this.points = this.points.filter((_, index) => index % 2 === 0 || index === this.points.length - 1);
    }
  }

  draw(now) {
    const known = this.points.filter(point => point.value !== null);
    if (known.length < 2) {
      this.path.setAttribute("d", "");
      return;
    }
    let low = Math.min(...known.map(point => point.value)), high = Math.max(...known.map(point => point.value));
    // A handful of records is always on its way: that is the floor of the picture, not a mountain.
    if (this.area) { low = 0; high = Math.max(high, AREA_FLOOR); }
    // A value that hardly moves is drawn as one, not as noise blown up to the full height.
    const least = Math.max(Math.abs(high) * 0.004, 1e-9);
    if (high - low < least) { const middle = (high + low) / 2; low = middle - least / 2; high = middle + least / 2; }
    const first = this.points[0].at, span = Math.max(now - first, 1);
    const x = at => ((at - first) / span * SPARK_WIDTH).toFixed(1);
    const y = value => (SPARK_HEIGHT - SPARK_EDGE - (value - low) / (high - low) * (SPARK_HEIGHT - 2 * SPARK_EDGE)).toFixed(1);
    let text = "", open = false;
    for (const point of this.points) {
      if (point.value === null) { open = false; continue; }
      text += `${open ? "L" : "M"}${x(point.at)} ${y(point.value)}`;
      open = true;
    }
    // The last value counts until there is another.
    if (open) text += `L${SPARK_WIDTH} ${y(known[known.length - 1].value)}`;
    if (this.area) text += `L${SPARK_WIDTH} ${SPARK_HEIGHT}L0 ${SPARK_HEIGHT}Z`;
    this.path.setAttribute("d", text);
  }
}
