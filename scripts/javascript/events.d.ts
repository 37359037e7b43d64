// The events by which the page of the report tells other scripts what it did.
interface WindowEventMap {
  "lakescore:started": CustomEvent<{ document: any }>;
  "lakescore:details": CustomEvent<{ version: any; dialog: HTMLDialogElement; body: HTMLElement }>;
}
