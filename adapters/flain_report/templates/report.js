(() => {
  "use strict";
  // A notebook runs this once for each report that it shows; each is set up once.
  for (const report of document.querySelectorAll(".flain-report:not([data-ready])")) {
    report.setAttribute("data-ready", "");
    for (const chart of report.querySelectorAll("figure.f-chart")) setUp(chart);
  }

  function setUp(chart) {
    const readings = JSON.parse(chart.querySelector(".f-data").textContent);
    const svg = chart.querySelector("svg");
    const reader = chart.querySelector(".f-reader");
    const slider = reader.querySelector("input");
    const words = reader.querySelector(".f-reading");
    if (!readings.length) return;
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    mark.setAttribute("class", "f-mark");
    reader.hidden = false;

    const show = (at) => {
      const [x, y, width, height, text] = readings[at];
      svg.append(mark);
      mark.setAttribute("x", x);
      mark.setAttribute("y", y);
      mark.setAttribute("width", width);
      mark.setAttribute("height", height);
      words.textContent = text;
      slider.value = at;
      slider.setAttribute("aria-valuetext", text);
    };
    const follow = (event) => {
      const matrix = svg.getScreenCTM();
      if (!matrix) return;
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      let nearest = 0;
      let least = Infinity;
      readings.forEach(([x, y, width, height], at) => {
        const beyondX = Math.max(x - point.x, 0, point.x - x - width);
        const beyondY = Math.max(y - point.y, 0, point.y - y - height);
        const distance = Math.hypot(beyondX, beyondY);
        if (distance < least) [nearest, least] = [at, distance];
      });
      show(nearest);
    };
    slider.addEventListener("input", () => show(Number(slider.value)));
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    slider.addEventListener("focus", () => show(Number(slider.value)));
    slider.setAttribute("aria-valuetext", readings[Number(slider.value)][4]);
    if ("first" in chart.dataset) show(Number(chart.dataset.first));
  }
})();
