// The pages that only some readers open are a module of their own, in the memory of this one. A report in one
// file puts its bytes here.
let pagesBytes;
let pagesFetched;
// Begins to fetch it, for whoever knows beforehand that it will be needed.
export function fetchPages() {
    // The name of the build is in the address, lest a cache give another's.
    pagesFetched = fetch(new URL("web_pages.wasm?BUILD", import.meta.url));
    // Whoever loads it hears of it.
    pagesFetched.catch(() => {});
}
async function loadPages() {
    if (!pagesBytes && !pagesFetched) fetchPages();
    const source = pagesBytes || pagesFetched;
    // What could not be fetched is fetched again the next time.
    pagesFetched = undefined;
    // Its addresses are those of the viewer that it was made with, and it starts with no other.
    await __wbg_load(await source, { __wasm_split: { ...wasm, BUILD: 0 } });
}
const PAGES = {
    __wasm_split_load_pages: async (callback, data) => {
        let isThere = true;
        try {
            await loadPages();
        } catch (error) {
            console.error(error);
            isThere = false;
        }
        wasm.__indirect_function_table.get(callback)(data, isThere);
    },
};
