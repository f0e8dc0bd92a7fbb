// On a phone the map of the series is wider than the screen: it is moved to where the lit box is seen.
const { lessons } = document.currentScript.dataset;
addEventListener('load', () => {
  for (const map of document.querySelectorAll('img[src*=you_are_here]')) {
    const [, number] = map.src.match(/here_(\d+)/), shelf = map.parentElement;
    shelf.scrollLeft = map.width * (number - 0.5) / lessons - shelf.clientWidth / 2;
  }
});
// What is wider than its place can be reached and moved by the keyboard, and its edge shows that there is more.
addEventListener('load', () => {
  for (const shelf of document.querySelectorAll('.bd-content p:has(> img), .bd-content .cell_output, .bd-content .cell_output pre')) {
    if (shelf.scrollWidth <= shelf.clientWidth) continue;
    shelf.classList.add('shelf');
    for (const [name, value] of Object.entries({ tabindex: 0, role: 'group', 'aria-label': 'moves sideways' })) shelf.setAttribute(name, value);
  }
});
