"""JavaScript that measures the contrast of the text of a page against what lies under it."""

from __future__ import annotations

SHARED = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
};
const dark = getComputedStyle(document.documentElement).colorScheme.includes('dark')
    && matchMedia('(prefers-color-scheme: dark)').matches;
const canvasColor = dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
const isShape = e => e instanceof SVGGeometryElement;
const paint = e => {
    const style = getComputedStyle(e);
    const color = isShape(e) ? style.fill : style.backgroundColor;
    if (color === 'none' || color.startsWith('url')) return [0, 0, 0, 0];
    const [r, g, b, a] = rgba(color);
    return [r, g, b, a * style.opacity * (isShape(e) ? style.fillOpacity : 1)];
};
const ancestors = e => e ? [e, ...ancestors(e.parentElement)] : [];
const flat = layers => layers.reverse().reduce((below, e) => over(paint(e), below), canvasColor);
"""

PAGE_LUMINANCE = SHARED + "return luminance(flat(ancestors(document.body)));"

LOW_CONTRAST = (
    SHARED
    + """
const under = e => {
    if (!e.closest('svg')) return flat(ancestors(e));
    e.scrollIntoView({block: 'center', inline: 'center'});
    const box = e.getBoundingClientRect();
    const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const shapes = stack.slice(stack.indexOf(e) + 1).filter(isShape);
    return flat([...shapes, ...ancestors(e.closest('svg'))]);
};
const hasText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility();
return [...document.querySelectorAll('body, body *')].filter(hasText).map(e => {
    const below = under(e);
    const style = getComputedStyle(e);
    const ink = rgba(e.closest('svg') ? style.fill : style.color);
    ink[3] *= ancestors(e).reduce((product, a) => product * getComputedStyle(a).opacity, 1);
    return [contrast(over(ink, below), below), e.textContent.trim().slice(0, 40)];
}).filter(([ratio]) => ratio < arguments[0]);
"""
)
"""Ratios under the one given, each with its text."""
