// A plot over time: up to six lines on one axis that begins at zero.

const namespace = "http://www.w3.org/2000/svg";
const width = 460;
const height = 176;
const edges = { left: 74, right: 8, top: 10, bottom: 20 };

function shape(name, attributes, parent) {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
}

/** The next of 1, 2, 5, 10, … that is not below. */
function ceiling(value) {
    const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
    return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}

export class Plot {
    /**
     * @param parent where it goes
     * @param title what it shows
     * @param names of one to six series
     * @param format a value in words
     * @param least the axis reaches at least this
     */
    constructor(parent, title, names, format, least) {
        Object.assign(this, { names, format, least, points: [] });
        const card = document.createElement("figure");
        card.className = "card";
        const heading = document.createElement("h2");
        heading.textContent = title;
        this.legend = document.createElement("figcaption");
        this.legend.className = "legend";
        this.picture = document.createElementNS(namespace, "svg");
        this.picture.setAttribute("class", "plot");
        this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
        this.picture.setAttribute("preserveAspectRatio", "none");
        this.picture.setAttribute("role", "img");
        this.picture.setAttribute("aria-label", title);
        card.append(heading, this.picture, this.legend);
        parent.append(card);
        this.picture.addEventListener("pointermove", (event) => {
            const box = this.picture.getBoundingClientRect();
            this.pointer = (event.clientX - box.left) / box.width * width;
            this.draw();
        });
        this.picture.addEventListener("pointerleave", () => { this.pointer = undefined; this.draw(); });
        new ResizeObserver(() => this.draw()).observe(this.picture);
    }

    /**
     * @param points [{ time in milliseconds, values, one for each series }], in order of time
     * @param names those that the series have from now on; one without a name is not there
     */
    show(points, seconds, names = this.names) {
        this.points = points;
        this.names = names;
        this.seconds = seconds;
        this.draw();
    }

    draw() {
        const picture = this.picture;
        // The picture is drawn in its own pixels, so that letters keep their shape.
        const box = picture.getBoundingClientRect();
        const wide = box.width || width;
        const high = box.height || height;
        picture.setAttribute("viewBox", `0 0 ${wide} ${high}`);
        picture.replaceChildren();
        const top = ceiling(Math.max(this.least, ...this.points.flatMap((point) => point.values)));
        const right = wide - edges.right;
        const bottom = high - edges.bottom;
        const latest = this.points.at(-1)?.time ?? 0;
        const x = (time) => right - (latest - time) / (this.seconds * 1000) * (right - edges.left);
        const y = (value) => bottom - value / top * (bottom - edges.top);
        for (const part of [0, 0.5, 1]) {
            shape("line", { class: "grid", x1: edges.left, x2: right, y1: y(part * top), y2: y(part * top) }, picture);
            shape("text", { x: edges.left - 6, y: y(part * top) + 4, "text-anchor": "end" }, picture).textContent = this.format(part * top);
        }
        for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
            const ago = this.seconds * (1 - part);
            const words = ago === 0 ? "now" : ago >= 120 ? `${ago / 60} min ago` : `${ago} s ago`;
            shape("text", { x: edges.left + part * (right - edges.left), y: high - 5, "text-anchor": anchor }, picture).textContent = words;
        }
        this.names.forEach((name, index) => {
            if (!name) return;
            const path = this.points.map((point) => `${x(point.time).toFixed(1)},${y(point.values[index]).toFixed(1)}`).join(" ");
            if (path) shape("polyline", { class: `series ${"abcdef"[index]}`, points: path }, picture);
        });
        const shown = this.pointedAt(x, wide) ?? this.points.at(-1);
        if (this.pointer !== undefined && shown) {
            shape("line", { class: "cursor", x1: x(shown.time), x2: x(shown.time), y1: edges.top, y2: bottom }, picture);
        }
        this.caption(shown, shown !== undefined && this.pointer !== undefined ? latest - shown.time : 0);
    }

    pointedAt(x, wide) {
        if (this.pointer === undefined || this.points.length === 0) return undefined;
        const place = this.pointer / width * wide;
        return this.points.reduce((best, point) => Math.abs(x(point.time) - place) < Math.abs(x(best.time) - place) ? point : best);
    }

    caption(point, ago) {
        this.legend.replaceChildren(...this.names.flatMap((name, index) => {
            if (!name) return [];
            const entry = document.createElement("span");
            entry.className = "abcdef"[index];
            const figure = document.createElement("span");
            figure.className = "figure";
            figure.textContent = point ? this.format(point.values[index]) : "–";
            entry.append(`${name} `, figure);
            return [entry];
        }));
        if (!this.names.some(Boolean)) this.legend.append("None.");
        if (ago > 0) this.legend.append(`${Math.round(ago / 1000)} s ago`);
    }
}

/** Which of many names have series of their own: the largest of what is shown. A name keeps its colour as long as it is one. */
export class Leaders {
    #places = Array(5).fill(undefined);

    /**
     * @param records [{ name: value }]
     * @returns the names for `Plot.show`, the last of which stands for all that have none, and the values of one record
     */
    choose(records) {
        const sums = new Map();
        for (const record of records) {
            for (const [name, value] of Object.entries(record)) sums.set(name, (sums.get(name) ?? 0) + value);
        }
        const largest = [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]).map(([name]) => name);
        const chosen = largest.slice(0, this.#places.length);
        this.#places = this.#places.map((name) => chosen.includes(name) ? name : undefined);
        for (const name of chosen) {
            if (!this.#places.includes(name)) this.#places[this.#places.indexOf(undefined)] = name;
        }
        const places = [...this.#places];
        const values = (record) => {
            const rest = Object.entries(record).filter(([name]) => !places.includes(name));
            return [...places.map((name) => record[name] ?? 0), rest.reduce((sum, [, value]) => sum + value, 0)];
        };
        return { names: [...places, largest.length > chosen.length ? "others" : undefined], values };
    }
}
