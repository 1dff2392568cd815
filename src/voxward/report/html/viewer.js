// The viewer of scans: a dialog with the linked planes of one scan, its layers, and what a reader may change.
//
//   [data-open-case=KEY][data-system=NAME]   buttons of the table that open a scan
//   dialog#viewer[data-state]                loading | shown | failed; absent while it is closed
//     #viewer-title, #viewer-close, #viewer-keys (shows #viewer-help)
//     #viewer-system, #viewer-attack         selects
//     #viewer-dice                           the Dice of what is chosen
//     #viewer-layers [data-layer=0..4]       buttons with aria-pressed: image, truth, clean, attacked, change
//     #viewer-blink                          button with aria-pressed
//     #viewer-views [data-view=all|axial|coronal|sagittal|render]   buttons with aria-pressed
//     #viewer-canvas, #viewer-message        the picture, or a sentence on why there is none
//     #viewer-previous, #viewer-slice (range), #viewer-next, #viewer-slice-text
//     #viewer-bar, #viewer-bar-low, #viewer-bar-high, #viewer-bar-text   the colours of the change
//     #viewer-status                         aria-live
//   script[data-volumes=KEY]                 volumes inside the page; the others are files that call voxwardVolumes
//   window.voxwardViewer.state()             {open, state, key, system, attack, view, plane, slice, slices, layers, blinking}
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
  const viewButtons = [...part("views").querySelectorAll("[data-view]")];

  const given = new Map(); // volumes that were read, by key
  const waiting = new Map(); // what waits for a file beside the page
  let niivue = null; // the library, as soon as it runs
  let nv = null; // its viewer
  let turn = 0; // counts what was asked for: what is overtaken is dropped
  let timer = null; // of the blinking
  let before = null; // the layers before the blinking
  const now = { case: null, data: null, system: "", attack: 0, view: "all", plane: 2, layers: [true, true, false, true, false], there: [] };

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

  /** A NiiVue image from base64 of a gzip NIfTI. */
  async function imageOf(text, options) {
    const image = await niivue.NVImage.new(await unpack(text), "volume.nii", options.colormap || "gray", options.opacity,
      null, options.low ?? NaN, options.high ?? NaN);
    return image;
  }

  function classTable(names) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    names.forEach((name, place) => {
      const colour = parseInt(COLOURS[place % COLOURS.length].slice(1), 16);
      table.R.push(colour >> 16);
      table.G.push((colour >> 8) & 255);
      table.B.push(colour & 255);
      table.A.push(255);
      table.I.push(place + 1);
      table.labels.push(name);
    });
    return table;
  }

  /** A layer with one colour per class; the truth as an outline. */
  async function maskOf(text, layer) {
    if (!text) return null;
    const image = await imageOf(text, { opacity: opacityOf(layer) });
    image.setColormapLabel(classTable(now.case.classes));
    if (layer === TRUTH) image.hdr.intent_code = 1002; // NiiVue outlines what says that it is a label
    return image;
  }

  async function changeOf(one) {
    if (!one.perturbation || !one.largest) return null;
    const image = await imageOf(one.perturbation, { opacity: opacityOf(CHANGE), colormap: "voxward-more" });
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
      multiplanarPadPixels: 6, isResizeCanvas: true, fontMinPx: 14, loadingText: "",
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.AUTO,
    });
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

  const opacityOf = (layer) => (now.layers[layer] ? OPACITY[layer] : 0);
  const attackedOf = () => now.data.attacked.filter((one) => one.system === now.system)[now.attack];

  /** Show the system and the attack that are chosen; layers that do not exist are null. */
  async function show(mine, jump) {
    const { data } = now;
    const one = attackedOf();
    const [low, high] = greys(data.window, now.case.bounds);
    const layers = await Promise.all([
      imageOf(data.image, { opacity: opacityOf(IMAGE), low, high }),
      maskOf(data.truth, TRUTH), maskOf(data.clean[now.system], CLEAN), maskOf(one?.mask, ATTACKED), one ? changeOf(one) : null,
    ]);
    if (mine !== turn) return;
    now.there = layers;
    const place = nv.volumes.length ? nv.frac2mm(nv.scene.crosshairPos) : null;
    nv.volumes = DRAWN.map((layer) => layers[layer]).filter(Boolean);
    nv.back = nv.volumes[0];
    nv.overlays = nv.volumes.slice(1);
    const start = jump || !place ? one?.start : place;
    // The place is known before anything is drawn, so that the first picture is the right one.
    if (flat() >= 0) now.view = PLANES[flat()];
    nv.opts.sliceType = VIEWS[now.view];
    draw();
    if (start) nv.scene.crosshairPos = nv.mm2frac([start[0], start[1], start[2], 1]);
    setView(now.view);
    buttons();
    describe(one);
    moved();
  }

  /** Put the layers together, and draw; greys are smooth, and segmentations keep the edges of their voxels. */
  function draw() {
    nv.updateGLVolume();
    nv.updateInterpolation(0, true);
  }

  /** Show the layers that are switched on. */
  function paint() {
    now.there.forEach((image, layer) => {
      if (image) image.opacity = opacityOf(layer);
    });
    buttons();
    if (!nv?.volumes.length) return;
    draw();
    nv.drawScene();
  }

  function buttons() {
    layerButtons.forEach((button, layer) => {
      button.setAttribute("aria-pressed", String(now.layers[layer]));
      button.disabled = now.there.length > 0 && !now.there[layer];
    });
    part("bar").hidden = !(now.layers[CHANGE] && now.there[CHANGE]);
  }

  // ---- What the reader does ----------------------------------------------------------------------------------

  async function open(key, system) {
    const mine = ++turn;
    Object.assign(now, { case: CASES.find((one) => one.key === key), data: null, there: [] });
    now.system = now.case.systems.some((one) => one.name === system) ? system : now.case.systems[0].name;
    now.view = NARROW.matches ? "axial" : "all";
    part("title").textContent = say("title", { case: now.case.case });
    fill(part("system"), now.case.systems.map((one) => one.name), now.system);
    part("system").closest("label").hidden = now.case.systems.length < 2;
    chooseAttacks(Infinity);
    legend();
    if (!dialog.open) dialog.showModal();
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
    now.view = view;
    now.plane = PLANES.includes(view) ? PLANES.indexOf(view) : 2;
    nv?.setSliceType(VIEWS[view]);
    viewButtons.forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
      button.hidden = Boolean(nv?.volumes.length) && flat() >= 0 && button.dataset.view !== view;
    });
    part("steps").hidden = view === "render";
    moved();
  }

  function toggle(layer) {
    if (now.there.length && !now.there[layer]) return announce(say("no_layer", { layer: layerButtons[layer].dataset.name }));
    blink(false);
    now.layers[layer] = !now.layers[layer];
    paint();
    announce(shownText());
  }

  /** Change between the clean and the attacked segmentation; one change for a reader who wants no motion. */
  function blink(on) {
    if (timer !== null) {
      clearInterval(timer);
      timer = null;
      now.layers = before;
      paint();
    }
    part("blink").setAttribute("aria-pressed", String(Boolean(on)));
    if (!on) return;
    if (!now.there[CLEAN] || !now.there[ATTACKED]) {
      part("blink").setAttribute("aria-pressed", "false");
      return announce(say("no_blink"));
    }
    if (!CALM.matches) before = [...now.layers];
    now.layers[ATTACKED] = !now.layers[CLEAN] && now.layers[ATTACKED];
    const swap = () => {
      now.layers[ATTACKED] = !now.layers[ATTACKED];
      now.layers[CLEAN] = !now.layers[ATTACKED];
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
    return say("shown", { layers: names.join(", ") || say("nothing") });
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
    now.there = [];
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

  window.voxwardViewer = {
    open,
    state: () => ({
      open: dialog.open, state: dialog.dataset.state || "", key: now.case?.key, system: now.system, attack: now.attack,
      view: now.view, plane: PLANES[now.plane], slice: places()[now.plane] + 1, slices: sizes()[now.plane],
      layers: [...now.layers], there: now.there.map(Boolean), blinking: timer !== null,
    }),
  };
})();
