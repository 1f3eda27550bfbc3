/** PouchDB as the page uses it. */
declare const PouchDB: { new (name: string): any };
export default PouchDB;
