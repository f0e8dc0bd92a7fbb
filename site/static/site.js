// On a phone the map of the series is wider than the screen: it is moved to where the lit box is seen.
const { lessons } = document.currentScript.dataset;
addEventListener('load', () => {
  for (const map of document.querySelectorAll('img[src*=you_are_here]')) {
    const [, number] = map.src.match(/here_(\d+)/), shelf = map.parentElement;
    shelf.scrollLeft = map.width * (number - 0.5) / lessons - shelf.clientWidth / 2;
  }
});
