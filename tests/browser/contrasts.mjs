// Runs in the page: every visible text and mark that stands out too little from its ground, with its ratio.
// WCAG 2.2: 4.5:1 for text (1.4.3), 3:1 for large text and for what is drawn (1.4.11); luminance as defined there.
export function contrasts() {
  const pencil = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    pencil.clearRect(0, 0, 1, 1);
    pencil.fillStyle = colour;
    pencil.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pencil.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], ground) => [r, g, b].map((c, n) => c * a + ground[n] * (1 - a));
  const ground = element => {
    const layers = [];
    for (let it = element; it; it = it.parentElement) layers.unshift(rgba(getComputedStyle(it).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const poor = [];
  let looked = 0;
  const look = (what, colour, below, least) => {
    looked += 1;
    const found = ratio(over(rgba(colour), below), below);
    if (found < least) poor.push([what, Number(found.toFixed(2)), least]);
  };

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(),
      element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest("noscript, .unseen")) continue;
    const style = getComputedStyle(element),
      size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    look(text.slice(0, 40), element instanceof SVGElement ? style.fill : style.color, ground(element), large ? 3 : 4.5);
  }
  for (const it of document.querySelectorAll("svg .waiting, svg .working"))
    look(`plot ${it.getAttribute("class")}`, getComputedStyle(it).fill, ground(it.closest("section")), 3);
  for (const it of document.querySelectorAll("svg .busy"))
    look("plot busy", getComputedStyle(it).stroke, ground(it.closest("section")), 3);
  for (const it of document.querySelectorAll(".cell")) {
    const style = getComputedStyle(it),
      drawn = it.classList.contains("done") ? style.backgroundColor : style.borderTopColor;
    if (it.checkVisibility()) look(it.className, drawn, ground(it.parentElement), 3);
  }
  for (const it of document.querySelectorAll("progress"))
    look("progress", getComputedStyle(it).color, rgba(getComputedStyle(it).backgroundColor).slice(0, 3), 3);
  return { looked, poor };
}
