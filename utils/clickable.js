// Called with what utils/clickable.py has put together; draws behind the script element that it stands in.
(data => {
  const { picture, columns, panels, words, colours } = data;
  const levels = Uint8Array.from(atob(data.levels), character => character.charCodeAt(0));
  const patches = columns * columns, rows = levels.length / panels.length / patches;
  const side = 32; // pixels of a patch on the canvas, which is shown at half that size at most
  const share = (panel, patch) => (levels[(panel * rows + chosen) * patches + patch] / 255) ** 2;
  const place = patch => `row ${Math.floor(patch / columns)}, column ${patch % columns}`;
  let chosen = data.chosen;

  const make = (tag, parent, properties = {}, attributes = {}) => {
    const element = Object.assign(document.createElement(tag), properties);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  };
  const box = document.createElement('div');
  box.className = 'clickable-look';
  document.currentScript.after(box);
  const hint = words ? 'Choose a word.' : 'Click a patch of the scene, or use the arrow keys on it.';
  make('p', box, { textContent: `${hint} Rows and columns are counted from 0.` });
  const choice = words && make('div', box, {}, { role: 'group', 'aria-label': 'words' });
  const plain = 'font: inherit; color: inherit; background: none; border: 2px solid; border-radius: 4px; padding: 2px 8px; margin: 0 6px 6px 0';
  const pressed = `${plain}; color: black; background: ${colours.chosen}; border-color: ${colours.chosen}`;
  const buttons = (words || []).map((word, row) => make('button', choice, { textContent: word, onclick: () => choose(row) }));
  const shelf = make('div', box, { style: 'display: flex; flex-wrap: wrap; gap: 12px' });
  const canvases = ['the scene', ...panels].map(title => {
    const figure = make('figure', shelf, { style: `margin: 0; flex: 1 1 130px; max-width: ${words ? 320 : columns * side / 2}px` });
    make('figcaption', figure, { textContent: title });
    const size = { width: columns * side, height: columns * side };
    return make('canvas', figure, { ...size, style: 'width: 100%' }, { role: 'img' });
  });
  const sentence = make('p', box, {}, { 'aria-live': 'polite' });

  const frame = (context, patch, colour, width) => {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.strokeRect((patch % columns) * side, Math.floor(patch / columns) * side, side, side);
  };
  const draw = (canvas, panel) => {
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    for (let patch = 0; patch < patches && panel !== null; patch++) {
      const beyond = (share(panel, patch) * patches - 1) / 9; // dim up to an equal share, fully lit from ten on
      context.globalAlpha = 1 - Math.sqrt(Math.min(1, Math.max(0, beyond)));
      const square = [(patch % columns) * side, Math.floor(patch / columns) * side, side, side];
      context.drawImage(dimmed, ...square, ...square);
    }
    context.globalAlpha = 1;
    if (panel !== null) frame(context, strongest(panel), colours.strongest, 5);
    if (!words) {
      frame(context, chosen, 'white', 9);
      frame(context, chosen, colours.chosen, 5);
    }
  };
  const strongest = panel => {
    const from = (panel * rows + chosen) * patches, row = levels.subarray(from, from + patches);
    return row.indexOf(Math.max(...row));
  };
  const choose = row => {
    chosen = row;
    const places = panels.map((title, panel) => `${place(strongest(panel))} (${data.largest[panel][chosen]}%)`);
    const looks = panels.map((title, panel) => `${title} at ${places[panel]}`);
    const from = words ? `Before “${words[chosen]}”` : `From ${place(chosen)}`;
    sentence.textContent = `${from}, the strongest look goes${panels.length > 1 ? `: ${looks.join('; ')}` : ` to ${places[0]}`}.`;
    canvases.forEach((canvas, index) => {
      const panel = index - 1;
      const scene = words ? 'The scene.' : `The scene; ${place(chosen)} is chosen.`;
      canvas.setAttribute('aria-label', panel < 0 ? scene : `The scene lit by ${looks[panel]}.`);
      draw(canvas, panel < 0 ? null : panel);
    });
    buttons.forEach((button, index) => {
      button.setAttribute('aria-pressed', index === chosen);
      button.style = index === chosen ? pressed : plain;
    });
  };

  if (!words) {
    Object.assign(canvases[0], { tabIndex: 0 }).style.cursor = 'pointer';
    canvases[0].setAttribute('role', 'application');
    canvases[0].onclick = event => {
      const { left, top, width } = canvases[0].getBoundingClientRect();
      const [column, row] = [event.clientX - left, event.clientY - top].map(x => Math.min(columns - 1, Math.floor(x / width * columns)));
      choose(row * columns + column);
    };
    canvases[0].onkeydown = event => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation(); // JupyterLab would go to another cell
      const [row, column] = [Math.floor(chosen / columns) + step[0], chosen % columns + step[1]];
      if (Math.min(row, column) >= 0 && Math.max(row, column) < columns) choose(row * columns + column);
    };
  }
  const dimmed = document.createElement('canvas'); // the picture where no light falls, as utils/plots.py has it
  const dim = () => {
    Object.assign(dimmed, { width: columns * side, height: columns * side });
    const context = dimmed.getContext('2d');
    context.drawImage(image, 0, 0, dimmed.width, dimmed.height);
    const pixels = context.getImageData(0, 0, dimmed.width, dimmed.height);
    let grey = 0; // of the whole picture
    for (let at = 0; at < pixels.data.length; at += 4) {
      grey += (pixels.data[at] + pixels.data[at + 1] + pixels.data[at + 2]) / 3 / (pixels.data.length / 4);
    }
    for (let at = 0; at < pixels.data.length; at += 4) {
      for (let colour = 0; colour < 3; colour++) pixels.data[at + colour] = 255 * data.dim + data.pale * (pixels.data[at + colour] - grey);
    }
    context.putImageData(pixels, 0, 0);
  };
  const image = new Image();
  image.onload = () => { dim(); choose(chosen); };
  image.src = picture;
})
