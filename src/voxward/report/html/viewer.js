// The viewer of scans: a dialog with the linked planes of one scan, its layers, and what a reader may change.
//
//   [data-open-case=KEY][data-system=NAME]   buttons of the table that open a scan
//   dialog#viewer[data-state]                loading | shown | failed; absent while it is closed
//     #viewer-title, #viewer-close, #viewer-keys (shows #viewer-help)
//     #viewer-system, #viewer-attack         selects
//     #viewer-dice                           the Dice of what is chosen
//     #viewer-image [data-image=clean|attacked]   buttons with aria-pressed: the image that is shown
//     #viewer-layers [data-layer=0..4]       buttons with aria-pressed: image, truth, clean, attacked, change
//     #viewer-blink                          button with aria-pressed
//     #viewer-caption                        what outlines and fills are, and which side is where in this view
//     #viewer-views [data-view=all|axial|coronal|sagittal|render]   buttons with aria-pressed
//     #viewer-canvas, #viewer-message        the picture, or a sentence on why there is none
//     #viewer-previous, #viewer-slice (range), #viewer-next, #viewer-slice-text
//     #viewer-bar, #viewer-bar-low, #viewer-bar-high, #viewer-bar-text   the colours of the change
//     #viewer-status                         aria-live
//   script[data-volumes=KEY]                 volumes inside the page; the others are files that call voxwardVolumes
//   window.voxwardViewer.state()             {open, state, key, system, attack, image, intensity (at the cross), view, plane,
//                                             slice, slices, layers, there, blinking}
//   #case=CASE                               the part of the address that opens a scan
"use strict";

(() => {
  const dialog = document.getElementById("viewer");
  if (!dialog) return;

  const WORDS = JSON.parse(document.getElementById("strings").textContent);
  const CASES = JSON.parse(document.getElementById("viewer-cases").textContent).cases;
  const COLOURS = JSON.parse(document.getElementById("palette").textContent).classes;
  const CALM = matchMedia("(prefers-reduced-motion: reduce)");
  const NARROW = matchMedia("(max-width: 700px)");
  const PLANES = ["sagittal", "coronal", "axial"]; // in the order of the axes left-right, back-front, feet-head
  const VIEWS = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 }; // numbers of NiiVue
  const IMAGE = 0, TRUTH = 1, CLEAN = 2, ATTACKED = 3, CHANGE = 4;
  const OPACITY = [1, 0.12, 0.5, 0.5, 0.65]; // the truth is drawn as an outline, which is always opaque
  const DRAWN = [IMAGE, CHANGE, CLEAN, ATTACKED, TRUTH]; // from the bottom to the top
  const BLINK_MS = 700;
  const SWIPE_PIXELS = 14;

  const part = (name) => document.getElementById(`viewer-${name}`);
  const say = (key, values = {}) =>
    WORDS[`viewer_${key}`].replace(/\{(\w+)\}/g, (_, name) => (name in values ? values[name] : ""));
  const layerButtons = [...part("layers").querySelectorAll("[data-layer]")];
  const imageButtons = [...part("image").querySelectorAll("[data-image]")];
  const viewButtons = [...part("views").querySelectorAll("[data-view]")];

  const given = new Map(); // volumes that were read, by key
  const waiting = new Map(); // what waits for a file beside the page
  let niivue = null; // the library, as soon as it runs
  let nv = null; // its viewer
  let turn = 0; // counts what was asked for: what is overtaken is dropped
  let timer = null; // of the blinking
  let before = null; // the layers and the image before the blinking
  const now = { case: null, data: null, system: "", attack: 0, view: "all", plane: 2, layers: [true, true, false, true, false], there: [],
    images: [null, null], struck: true }; // images: untouched, attacked; struck: the attacked one is wanted

  window.voxwardVolumes = (key, data) => {
    given.set(key, data);
    waiting.get(key)?.();
  };

  const webgl = () => Boolean(document.createElement("canvas").getContext("webgl2"));

  // ---- Reading -----------------------------------------------------------------------------------------------

  /** Bytes from base64, unpacked where they are gzip. */
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  /** Run the library, which the page holds packed, so that its text is there at once. */
  let library = null;
  function loadLibrary() {
    library ??= unpack(document.getElementById("niivue").textContent).then((content) => {
      const script = document.createElement("script");
      script.textContent = new TextDecoder().decode(content);
      document.head.append(script);
      niivue = window.niivue;
    });
    return library;
  }

  /** The volumes of a scan, from the page or from a file beside it. */
  function volumesOf(one) {
    if (given.has(one.key)) return Promise.resolve(given.get(one.key));
    const inside = document.querySelector(`script[data-volumes="${CSS.escape(one.key)}"]`);
    if (inside) {
      given.set(one.key, JSON.parse(inside.textContent));
      return Promise.resolve(given.get(one.key));
    }
    return new Promise((resolve, reject) => {
      waiting.set(one.key, () => resolve(given.get(one.key)));
      const script = document.createElement("script");
      script.src = one.file.split("/").map(encodeURIComponent).join("/");
      script.onerror = () => reject(new Error(say("no_file", { file: one.file })));
      document.head.append(script);
    });
  }

  /** A NiiVue image from the bytes of a NIfTI file. */
  const imageOf = (bytes, options) =>
    niivue.NVImage.new(bytes, "volume.nii", options.colormap || "gray", options.opacity, null, options.low ?? NaN, options.high ?? NaN);

  /** The numbers of a NIfTI file that this page holds, as its header scales them. */
  function numbersOf(bytes) {
    const header = new DataView(bytes);
    const kinds = { 2: Uint8Array, 4: Int16Array, 256: Int8Array };
    const stored = new kinds[header.getInt16(70, true)](bytes, header.getFloat32(108, true));
    return { stored, slope: header.getFloat32(112, true) || 1, base: header.getFloat32(116, true) };
  }

  /** The attacked image: the image, cut to the range that the attack saw, plus the change; a NIfTI file of 32 bits. */
  function added(imageBytes, changeBytes, clip) {
    const image = numbersOf(imageBytes), change = numbersOf(changeBytes);
    const sum = new ArrayBuffer(352 + 4 * image.stored.length);
    new Uint8Array(sum).set(new Uint8Array(imageBytes, 0, 352));
    const header = new DataView(sum);
    header.setInt16(70, 16, true); // 32 bit floating point
    header.setInt16(72, 32, true);
    header.setFloat32(112, 1, true);
    header.setFloat32(116, 0, true);
    const [low, high] = clip || [-Infinity, Infinity];
    const numbers = new Float32Array(sum, 352);
    for (let i = 0; i < numbers.length; i++) {
      const before = image.stored[i] * image.slope + image.base;
      numbers[i] = Math.min(Math.max(before, low), high) + change.stored[i] * change.slope + change.base;
    }
    return sum;
  }

  /** The image, untouched and attacked; null for the attacked one where the change is not known. */
  async function imagesOf(one, range) {
    const bytes = await unpack(now.data.image);
    const change = one?.perturbation ? await unpack(one.perturbation) : null;
    const both = [bytes, change && added(bytes, change, one.clip)];
    const [low, high] = range; // the same greys for both, so that what differs is the image
    return Promise.all(both.map((content) => content && imageOf(content, { opacity: opacityOf(IMAGE), low, high })));
  }

  /** One colour per class; paler ones for a second segmentation over the first. */
  function classTable(names, pale) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    const shade = (value) => (pale ? Math.round(value + (255 - value) * 0.65) : value);
    names.forEach((name, place) => {
      const colour = parseInt(COLOURS[place % COLOURS.length].slice(1), 16);
      table.R.push(shade(colour >> 16));
      table.G.push(shade((colour >> 8) & 255));
      table.B.push(shade(colour & 255));
      table.A.push(255);
      table.I.push(place + 1);
      table.labels.push(name);
    });
    return table;
  }

  /** A layer with one colour per class; the truth as an outline. */
  async function maskOf(text, layer) {
    if (!text) return null;
    const image = await imageOf(await unpack(text), { opacity: opacityOf(layer) });
    dress(image, layer);
    return image;
  }

  /** How a segmentation is drawn: NiiVue outlines what says that it is a label. */
  function dress(image, layer) {
    const pale = layer === CLEAN && bothSegmentations();
    image.setColormapLabel(classTable(now.case.classes, pale));
    image.hdr.intent_code = layer === TRUTH || (pale && now.view !== "render") ? 1002 : 0;
  }

  const bothSegmentations = () => now.layers[CLEAN] && now.layers[ATTACKED];

  async function changeOf(one) {
    if (!one.perturbation || !one.largest) return null;
    const image = await imageOf(await unpack(one.perturbation), { opacity: opacityOf(CHANGE), colormap: "voxward-more" });
    image.colormapNegative = "voxward-less";
    Object.assign(image, { cal_min: 0, cal_max: one.largest, cal_minNeg: -one.largest, cal_maxNeg: 0 });
    return image;
  }

  // ---- Drawing -----------------------------------------------------------------------------------------------

  let started = null;
  const start = () => (started ??= begin());

  /** Make the viewer and its shaders, which takes longer than the drawing; the dialog may still be closed. */
  async function begin() {
    await loadLibrary();
    const viewer = new niivue.Niivue({
      backColor: [0.078, 0.086, 0.102, 1], crosshairColor: [0.95, 0.85, 0.35, 0.55], crosshairWidth: 0.35,
      crosshairWidthUnit: "percent", crosshairGap: 4, showAllOrientationMarkers: true,
      isRadiologicalConvention: true, isNearestInterpolation: true, isOrientationTextVisible: true,
      dragAndDropEnabled: false, atlasOutline: 1, logLevel: "error", show3Dcrosshair: true, fontColor: [0.91, 0.92, 0.93, 1],
      multiplanarPadPixels: 8, tileMargin: -1, isResizeCanvas: true, fontMinPx: 14, loadingText: "",
      // A picture in 3D takes longer than three planes where there is no graphics card; it has a view of its own.
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, multiplanarLayout: niivue.MULTIPLANAR_TYPE.AUTO,
    });
    // Greys are always smooth, and segmentations always keep the edges of their voxels.
    const interpolate = viewer.updateInterpolation;
    viewer.updateInterpolation = (layer, smooth) => interpolate.call(viewer, layer, smooth || layer === 0);
    viewer.addColormap("voxward-more", { R: [253, 239, 178], G: [219, 138, 24], B: [199, 98, 43], A: [0, 190, 255], I: [0, 128, 255] });
    viewer.addColormap("voxward-less", { R: [209, 103, 33], G: [229, 169, 102], B: [240, 207, 172], A: [0, 190, 255], I: [0, 128, 255] });
    viewer.onLocationChange = () => moved();
    await viewer.attachToCanvas(part("canvas"), false);
    part("canvas").parentElement.style.backgroundColor = "";
    nv = viewer;
  }

  /** The intensities that are black and white: what occurs near the finding, within the range of the threat model. */
  function greys([low, high], bounds) {
    const both = bounds ? [Math.max(low, bounds[0]), Math.min(high, bounds[1])] : [low, high];
    return both[0] < both[1] ? both : bounds;
  }

  /** The plane of an image of one slice; -1 where there are more. */
  const flat = () => sizes().indexOf(1);

  /** In 3D there are segmentations only: image and change fill the whole block, and would hide them. */
  const drawnIn = (layer) => now.view !== "render" || layer === CLEAN || layer === ATTACKED;
  const opacityOf = (layer) =>
    !now.layers[layer] || !drawnIn(layer) ? 0 : layer === CLEAN && bothSegmentations() ? OPACITY[TRUTH] : OPACITY[layer];
  const attackedOf = () => now.data.attacked.filter((one) => one.system === now.system)[now.attack];

  /** Show the system and the attack that are chosen; layers that do not exist are null. */
  async function show(mine, jump) {
    const { data } = now;
    const one = attackedOf();
    const [images, ...masks] = await Promise.all([
      imagesOf(one, greys(data.window, now.case.bounds)),
      maskOf(data.truth, TRUTH), maskOf(data.clean[now.system], CLEAN), maskOf(one?.mask, ATTACKED), one ? changeOf(one) : null,
    ]);
    if (mine !== turn) return;
    now.images = images;
    const layers = [images[Number(isStruck())], ...masks];
    now.there = layers;
    const place = nv.volumes.length ? nv.frac2mm(nv.scene.crosshairPos) : null;
    stack();
    const start = jump || !place ? one?.start : place;
    // The place is known before anything is drawn, so that the first picture is the right one.
    if (flat() >= 0) now.view = PLANES[flat()];
    nv.opts.sliceType = VIEWS[now.view];
    nv.updateGLVolume();
    if (start) nv.scene.crosshairPos = nv.mm2frac([start[0], start[1], start[2], 1]);
    setView(now.view);
    buttons();
    describe(one);
    moved();
  }

  /** Give NiiVue what is drawn, and nothing else: every layer costs time. Without the image there is no space. */
  function stack() {
    const drawn = DRAWN.filter((layer) => now.there[layer] && (layer === IMAGE || opacityOf(layer)));
    nv.volumes = drawn.map((layer) => now.there[layer]);
    nv.back = nv.volumes[0];
    nv.overlays = nv.volumes.slice(1);
  }

  /** Whether the attacked image is shown. */
  const isStruck = () => Boolean(now.struck && now.images[1]);

  /** Show the image that is chosen and the layers that are switched on. */
  function paint() {
    if (now.there.length) now.there[IMAGE] = now.images[Number(isStruck())];
    now.there.forEach((image, layer) => {
      if (!image) return;
      image.opacity = opacityOf(layer);
      if (layer === CLEAN) dress(image, layer);
    });
    buttons();
    if (!nv?.volumes.length) return;
    stack();
    nv.updateGLVolume();
    nv.drawScene();
  }

  function buttons() {
    layerButtons.forEach((button, layer) => {
      button.setAttribute("aria-pressed", String(now.layers[layer]));
      button.disabled = now.there.length > 0 && (!now.there[layer] || !drawnIn(layer));
    });
    imageButtons.forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === Number(isStruck())));
      button.disabled = now.there.length > 0 && (!now.images[place] || now.view === "render");
    });
    caption();
    part("bar").hidden = !(now.layers[CHANGE] && now.there[CHANGE] && drawnIn(CHANGE));
  }

  // ---- What the reader does ----------------------------------------------------------------------------------

  async function open(key, system) {
    const mine = ++turn;
    Object.assign(now, { case: CASES.find((one) => one.key === key), data: null, there: [], images: [null, null] });
    now.system = now.case.systems.some((one) => one.name === system) ? system : now.case.systems[0].name;
    now.view = NARROW.matches ? "axial" : "all";
    part("title").textContent = say("title", { case: now.case.case });
    fill(part("system"), now.case.systems.map((one) => one.name), now.system);
    part("system").closest("label").hidden = now.case.systems.length < 2;
    chooseAttacks(Infinity);
    legend();
    if (!dialog.open) dialog.showModal();
    history.replaceState(null, "", `#case=${encodeURIComponent(now.case.case)}`);
    if (!webgl()) return fail(say("no_webgl"));
    state("loading", say("loading"));
    await attempt(mine, async () => {
      const [data] = await Promise.all([volumesOf(now.case), start()]);
      if (mine !== turn) return;
      now.data = data;
      await show(mine, true);
    });
  }

  async function choose(jump) {
    const mine = ++turn;
    if (now.data) await attempt(mine, () => show(mine, jump));
  }

  async function attempt(mine, work) {
    try {
      await work();
      if (mine === turn) state("shown", "");
    } catch (error) {
      if (mine === turn) fail(say("failed", { reason: error.message }));
    }
  }

  function state(name, message) {
    dialog.dataset.state = name;
    part("message").textContent = message;
    part("message").hidden = !message;
    part("canvas").classList.toggle("unseen", name === "failed");
    part("still").hidden = name !== "failed" || !stillOf(now.case);
  }

  function fail(message) {
    const still = stillOf(now.case);
    if (still) part("still").src = still.src;
    part("still").alt = still ? still.alt : "";
    state("failed", message);
    announce(message);
  }

  const stillOf = (one) => document.querySelector(`img[data-still="${CSS.escape(one.key)}"]`);

  function setView(view) {
    const other = (view === "render") !== (now.view === "render");
    now.view = view;
    if (other && nv?.volumes.length) paint(); // other layers are drawn in 3D
    now.plane = PLANES.includes(view) ? PLANES.indexOf(view) : 2;
    nv?.setSliceType(VIEWS[view]);
    viewButtons.forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
      button.hidden = Boolean(nv?.volumes.length) && flat() >= 0 && button.dataset.view !== view;
    });
    part("steps").hidden = view === "render";
    buttons();
    moved();
  }

  /** Show the untouched image or the attacked one. */
  function chooseImage(struck) {
    if (!now.images[1]) return announce(say("no_attacked_image"));
    blink(false);
    now.struck = struck;
    paint();
    announce(shownText());
  }

  function toggle(layer) {
    if (now.there.length && !drawnIn(layer)) return announce(say("not_in_3d"));
    if (now.there.length && !now.there[layer]) return announce(say("no_layer", { layer: layerButtons[layer].dataset.name }));
    blink(false);
    now.layers[layer] = !now.layers[layer];
    paint();
    announce(shownText());
  }

  /** Change between the untouched scan with its segmentation and the attacked one; once for who wants no motion. */
  function blink(on) {
    if (timer !== null) {
      clearInterval(timer);
      timer = null;
      Object.assign(now, before);
      paint();
      announce(shownText());
    }
    part("blink").setAttribute("aria-pressed", String(Boolean(on)));
    if (!on) return;
    const masks = Boolean(now.there[CLEAN] && now.there[ATTACKED]);
    if (!masks && !now.images[1]) {
      part("blink").setAttribute("aria-pressed", "false");
      return announce(say("no_blink"));
    }
    if (!CALM.matches) before = { layers: [...now.layers], struck: now.struck };
    let struck = now.images[1] ? now.struck : now.layers[ATTACKED];
    const swap = () => {
      struck = !struck;
      now.struck = struck;
      if (masks) now.layers[ATTACKED] = !(now.layers[CLEAN] = !struck);
      paint();
    };
    swap();
    if (CALM.matches) {
      part("blink").setAttribute("aria-pressed", "false");
      announce(shownText());
    } else {
      timer = setInterval(swap, BLINK_MS);
      announce(say("blinking"));
    }
  }

  const sizes = () => (nv?.volumes.length ? nv.volumes[0].dimsRAS.slice(1, 4) : [1, 1, 1]);
  const places = () => (nv?.volumes.length ? [...nv.frac2vox(nv.scene.crosshairPos)].map(Math.round) : [0, 0, 0]);

  function step(by, plane = now.plane) {
    if (!nv?.volumes.length || now.view === "render") return;
    goTo(places()[plane] + by, plane);
    announce(sliceText());
  }

  function goTo(slice, plane = now.plane) {
    const place = places();
    place[plane] = Math.min(Math.max(slice, 0), sizes()[plane] - 1);
    nv.scene.crosshairPos = nv.vox2frac(place);
    nv.drawScene();
    moved();
  }

  function moved() {
    part("slice").max = sizes()[now.plane];
    part("slice").value = places()[now.plane] + 1;
    part("slice").setAttribute("aria-valuetext", sliceText());
    part("slice-text").textContent = sliceText();
  }

  // ---- Words -------------------------------------------------------------------------------------------------

  const sliceText = () => say("slice", { plane: say(PLANES[now.plane]), slice: places()[now.plane] + 1, slices: sizes()[now.plane] });

  function shownText() {
    const names = layerButtons.filter((_, layer) => now.layers[layer] && now.there[layer]).map((button) => button.dataset.name);
    if (names.length && now.layers[IMAGE]) names[0] = say(isStruck() ? "image_attacked" : "image_clean");
    return say("shown", { layers: names.join(", ") || say("nothing") });
  }

  /** What is drawn how, and which side of the patient is where. */
  function caption() {
    const parts = now.view === "render" ? [say("caption_render")] : [say("caption_lines"), say(`caption_${now.view}`)];
    if (now.view !== "render" && bothSegmentations()) parts.splice(1, 0, say("caption_both"));
    part("caption").textContent = parts.join(" ");
  }

  function announce(text) {
    part("status").textContent = text;
  }

  function describe(one) {
    const system = now.case.systems.find((entry) => entry.name === now.system);
    const struck = system.attacked[now.attack];
    part("dice").textContent = struck
      ? say("dice", { clean: system.clean.toFixed(2), attacked: struck.dice.toFixed(2), attack: one?.attack || struck.attack })
      : "";
    const notes = [...now.data.notes, ...(one?.notes || [])];
    if (one?.union) notes.unshift(say("union", { clean: one.union[0].toFixed(2), attacked: one.union[1].toFixed(2) }));
    if (one?.step) notes.push(say("put_together", { step: Number(one.step.toPrecision(2)), unit: now.case.unit_text }));
    part("notes").replaceChildren(...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    if (one?.largest) {
      const largest = Number(one.largest.toPrecision(3));
      part("bar-low").textContent = `−${largest}`;
      part("bar-high").textContent = `+${largest}`;
      part("bar-text").textContent = say("bar", { unit: now.case.unit_text, eps: struck.text });
    }
    announce(`${sliceText()}. ${shownText()}`);
  }

  function legend() {
    const items = now.case.classes.map((name, place) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = COLOURS[place % COLOURS.length];
      item.append(swatch, name);
      return item;
    });
    part("legend").replaceChildren(...items);
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name, place) => new Option(name, place, false, name === chosen)));
  }

  function chooseAttacks(place) {
    const { attacked } = now.case.systems.find((one) => one.name === now.system);
    now.attack = Math.min(place, attacked.length - 1);
    const names = attacked.map((one) => say("attack", { eps: one.text, attack: one.attack || say("none"), dice: one.dice.toFixed(2) }));
    fill(part("attack"), names, names[now.attack]);
    part("attack").selectedIndex = now.attack;
  }

  // ---- Events ------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-open-case]");
    if (button) open(button.dataset.openCase, button.dataset.system);
  });
  part("close").addEventListener("click", () => {
    empty();
    dialog.close();
  });
  dialog.addEventListener("cancel", () => empty()); // Escape
  dialog.addEventListener("close", () => {
    empty();
    delete dialog.dataset.state;
  });

  /** Take the scan out before the dialog goes: NiiVue would draw it into a canvas without size. */
  function empty() {
    turn += 1;
    blink(false);
    Object.assign(now, { there: [], images: [null, null] });
    if (location.hash.startsWith("#case=")) history.replaceState(null, "", location.pathname + location.search);
    if (nv) Object.assign(nv, { volumes: [], back: null, overlays: [] });
  }

  part("system").addEventListener("change", () => {
    now.system = now.case.systems[part("system").selectedIndex].name;
    chooseAttacks(now.attack);
    choose(false);
  });
  part("attack").addEventListener("change", () => {
    now.attack = part("attack").selectedIndex;
    choose(false);
  });
  layerButtons.forEach((button, layer) => button.addEventListener("click", () => toggle(layer)));
  imageButtons.forEach((button, place) => button.addEventListener("click", () => chooseImage(place === 1)));
  viewButtons.forEach((button) => button.addEventListener("click", () => setView(button.dataset.view)));
  part("blink").addEventListener("click", () => blink(timer === null));
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  part("slice").addEventListener("input", () => goTo(Number(part("slice").value) - 1));
  part("keys").addEventListener("click", () => help());

  function help() {
    part("help").hidden = !part("help").hidden;
    part("keys").setAttribute("aria-expanded", String(!part("help").hidden));
  }

  const KEYS = {
    "[": () => step(-1), "]": () => step(1), ArrowDown: () => step(-1), ArrowUp: () => step(1),
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    a: () => chooseImage(!isStruck()), A: () => chooseImage(!isStruck()),
    b: () => blink(timer === null), B: () => blink(timer === null), "?": () => help(),
    1: () => toggle(0), 2: () => toggle(1), 3: () => toggle(2), 4: () => toggle(3), 5: () => toggle(4),
  };

  // Before NiiVue, which has keys of its own; a field that is in use keeps the keys that it needs.
  dialog.addEventListener("keydown", (event) => {
    const own = event.target.matches("select, input") && event.key.startsWith("Arrow");
    if (event.ctrlKey || event.metaKey || event.altKey || own || !(event.key in KEYS)) return;
    event.preventDefault();
    event.stopPropagation();
    KEYS[event.key]();
  }, true);

  // One plane on a phone: a swipe up or down turns the slices.
  let swipe = null;
  const stage = part("stage");
  const swipes = () => NARROW.matches && PLANES.includes(now.view);
  stage.addEventListener("touchstart", (event) => {
    if (!swipes() || event.touches.length !== 1) return;
    swipe = event.touches[0].clientY;
    event.stopPropagation();
  }, { capture: true, passive: true });
  stage.addEventListener("touchmove", (event) => {
    if (swipe === null || !swipes()) return;
    event.stopPropagation();
    event.preventDefault();
    const steps = Math.trunc((swipe - event.touches[0].clientY) / SWIPE_PIXELS);
    if (!steps) return;
    swipe -= steps * SWIPE_PIXELS;
    step(steps);
  }, { capture: true, passive: false });
  stage.addEventListener("touchend", () => (swipe = null), { capture: true, passive: true });

  // All is made ready while the reader comes near the table, so that the first scan opens at once.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    (window.requestIdleCallback || setTimeout)(() => webgl() && start().catch(() => {}));
  }, { rootMargin: "400px" }).observe(document.getElementById("cases"));

  /** Open the scan that the address names. */
  function openNamed() {
    const name = location.hash.startsWith("#case=") ? decodeURIComponent(location.hash.slice(6)) : "";
    const named = name && CASES.find((one) => one.case === name || one.key === name);
    if (named && !(dialog.open && now.case === named)) open(named.key, named.systems[0].name);
  }
  addEventListener("hashchange", openNamed);

  window.voxwardViewer = {
    open,
    state: () => ({
      open: dialog.open, state: dialog.dataset.state || "", key: now.case?.key, system: now.system, attack: now.attack,
      image: isStruck() ? "attacked" : "clean", intensity: nv?.volumes.length ? nv.volumes[0].getValue(...places()) : null,
      view: now.view, plane: PLANES[now.plane], slice: places()[now.plane] + 1, slices: sizes()[now.plane],
      layers: [...now.layers], there: now.there.map(Boolean), blinking: timer !== null,
    }),
  };
  openNamed();
})();
