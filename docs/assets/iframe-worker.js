// A page that was opened from disk may start no worker. There, what would run as one (the search) runs in a hidden frame
// of the page, which needs no network either.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inner = this.frame.contentWindow;
      inner.postMessage = (data) => {
        const event = new MessageEvent("message", { data: structuredClone(data) });
        setTimeout(() => {
          this.dispatchEvent(event);
          this.onmessage?.(event);
        });
      };
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = inner.document.createElement("script");
          script.src = new URL(source, document.baseURI).href;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`cannot load ${script.src}`));
          inner.document.body.append(script);
        });
      inner.importScripts = (...sources) => Promise.all(sources.map(load));
      this.ready = load(url);
      this.ready.catch((error) => this.dispatchEvent(new ErrorEvent("error", { message: error.message })));
    }

    postMessage(data) {
      const inner = this.frame.contentWindow;
      const event = new MessageEvent("message", { data: structuredClone(data) });
      this.ready.then(() => setTimeout(() => inner.dispatchEvent(event)));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
