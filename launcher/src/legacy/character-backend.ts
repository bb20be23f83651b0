/** Where a serial port or console sends its output and gets its input. The control API's console is one. */
export interface CharacterBackend {
  /** Output of the guest; `bytes` is only valid during the call. */
  output(bytes: Uint8Array): void;
  /** The device takes input from here: called once, when the device is made. */
  connect(sink: CharacterSink): void;
}

/** The device's side: how much input it takes now, and taking it. */
export interface CharacterSink {
  /** Gives the device up to `bytes.length` bytes of input; answers how many it took. */
  input(bytes: Uint8Array): number;
  /** Called by the backend to be told when a device that was full takes input again. */
  onDrain(listener: () => void): void;
}
