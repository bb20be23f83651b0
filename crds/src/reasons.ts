/**
 * Reasons of conditions and events: what each means and what a person does next. Groups follow the life of a machine.
 * A condition's message says the same for the case at hand.
 */
export const reasons = {
  // All is well, or on its way.
  AsExpected: "Nothing is wrong, and nothing is left to do.",
  Pending: "The machine's pod is to be created or waits for the scheduler.",
  Scheduled: "The pod has a node; its images are being pulled and its volumes mounted.",
  Starting: "The launcher runs and prepares the machine; the guest has not run yet.",
  Running: "The guest's processors run.",
  GuestNotReady: "The guest runs, and spec.readinessProbe does not succeed: it still boots, or its service is down.",
  Paused: "The guest is paused because spec.paused is true; set it to false to go on.",
  StorageFull:
    "The guest is paused because the storage of a disk is full; it goes on by itself once there is room. Make room, grow the claim, or raise the limit that the message names.",
  Pausing: "The launcher has been asked to pause the guest because spec.paused is true.",
  Resuming: "The launcher has been asked to let the guest go on because spec.paused is false.",
  Stopping: "The guest was asked to power off and has until the end of its grace period.",
  Halted: "The machine is off because spec.runStrategy is Halted.",
  Completed: "The guest powered itself off, and spec.runStrategy does not start it again.",
  Restarting: "The machine ended and is about to be started again, as spec.runStrategy asks.",
  Deleting: "The VirtualMachine is being deleted.",

  // What the launcher says about the end of a machine: TerminationReason of the Launcher API, name by name.
  GuestPowerOff: "The guest powered itself off.",
  Stopped: "The guest was asked to power off and did.",
  StopTimeout:
    "The guest did not power off within its grace period and was switched off; see that the guest reacts to its power button (acpid or systemd-logind), or give it more terminationGracePeriodSeconds.",
  ConfigInvalid:
    "The launcher refused its configuration: a defect, or launcher and operator are of different versions.",
  BootImageInvalid: "The kernel or the initial RAM disk is missing in its image or is not one; correct spec.boot.",
  DiskUnavailable: "A disk cannot be opened; the message names it. Correct spec.disks or its image or claim.",
  NetworkUnavailable:
    "An interface cannot be attached; the message names it. Correct spec.interfaces or the pod's network.",
  StateInvalid:
    "What the machine was to go on from cannot be used on this node, or never came; the message says what does not fit.",
  Suspended: "The machine was suspended by someone who spoke to the launcher: it is in files, and can go on from them.",
  Migrated: "The machine goes on in another launcher.",
  KvmUnavailable: "The node's /dev/kvm is missing, refused or too old, or its memory cannot be had.",
  AgentUnavailable: "The node agent did not answer; look at the typevisor-node pod of that node.",
  GuestTripleFault: "The guest's processor shut down after a triple fault; look at the end of its console.",
  KvmInternalError: "KVM could not go on with the guest; look at the launcher's log and the node's kernel log.",
  ResetStorm: "The guest reset itself again and again without running for long; look at its console.",
  LauncherError: "The launcher failed: a defect. Please report it with the launcher's log.",

  // What Kubernetes says about the end of a pod.
  LivenessProbeFailed:
    "The guest did not answer spec.livenessProbe and was stopped; see its console, or give it more time (initialDelaySeconds, failureThreshold).",
  LauncherKilled: "The launcher was killed from outside (signal 9), without a last word.",
  OutOfMemory:
    "The launcher was killed for want of memory: raise or remove spec.template.spec.resources.limits.memory, or see what fills the node.",
  Evicted: "The kubelet evicted the pod: the node ran short of memory, storage or processes.",
  Preempted: "The pod gave way to one of higher priority.",
  PodDeleted: "The pod was deleted from outside; for a machine that shall run this is a restart.",
  PodRejected:
    "The node refused the pod before it started, often because its device plugin was away; it is tried again.",
  NodeLost:
    "The node does not answer. The machine starts elsewhere once its pod is gone or the node is tainted node.kubernetes.io/out-of-service.",

  // Why a machine does not start.
  CrashBackOff: "The machine ended in a fault and is started again after a delay that doubles from 10 s to 5 min.",
  Crashed: "The machine ended in a fault, and spec.runStrategy does not start it again.",
  StartBackOff: "The pod failed before the machine started; it is made anew after a delay.",
  Unschedulable: "No node has room, KVM and what spec.template asks for; the message is the scheduler's.",
  ImagePullFailed: "An image of a disk or kernel cannot be pulled; check its reference and imagePullSecrets.",
  ClaimNotFound: "A PersistentVolumeClaim that spec.disks names does not exist; create it or correct the name.",
  ClaimNotBound:
    "A PersistentVolumeClaim has no volume yet; the message names it and says what the scheduler or its StorageClass waits for.",
  ClaimLost: "The volume of a PersistentVolumeClaim is gone; restore it, or make a new claim.",
  ClaimDeleting:
    "A PersistentVolumeClaim is being deleted; wait until it is gone and create it again, or name another.",
  ClaimInUse:
    "Another machine has the PersistentVolumeClaim; stop that one, or give this one a claim of its own. Machines share a claim only where all have it readOnly.",
  ClaimReadOnly: "A PersistentVolumeClaim can only be read; set readOnly on its disk.",
  ClaimImporting:
    "A PersistentVolumeClaim is being filled from its VirtualMachineImage; the message says how far that is, or what it waits for.",
  ClaimNotPopulated:
    "A PersistentVolumeClaim was bound to a volume that was not filled from its VirtualMachineImage: its storage ignores dataSourceRef. Delete the claim, and make it anew with a StorageClass of provisioner typevisor.io/import (docs/import.md).",
  VolumeNotReady: "A volume of the pod cannot be mounted yet; the message is the kubelet's.",
  SecretNotFound: "A Secret that spec names does not exist; create it or correct the name.",
  ContainerNotStarted: "The container runtime cannot start the launcher; the message is the kubelet's.",
  PodInvalid: "The API server refused the pod as invalid; correct spec.template.",
  PodForbidden: "The API server forbids the pod: Pod Security, an admission policy or the operator's permissions.",
  QuotaExceeded: "The namespace's ResourceQuota or LimitRange has no room for the pod.",
  NameConflict: "A pod or Secret of the name that the machine needs belongs to something else; delete or rename it.",
  SpecInvalid: "The spec cannot be carried out; the message names the field and the way out.",
  ApiError: "The API server answered with an error; it is tried again.",

  // Operator and launcher.
  LauncherUnreachable: "The operator cannot reach the launcher on the pod's IP; check NetworkPolicies.",
  LauncherNotReady: "The launcher runs but does not report a running guest.",
  Unknown: "The state is not known yet.",

  // Migratable and RestartRequired.
  NotRunning: "The machine does not run: there is nothing to move.",
  DiskNotMigratable:
    "A disk is on storage that another node cannot have at the same time; the message names it. Use a claim of access mode ReadWriteMany, or, where the message says so, spec.targetClaims of a migration.",
  TargetClaimsNeeded:
    "Disks are on claims that another node cannot have at the same time, and nothing else is in the way: the machine moves by a migration that names spec.targetClaims for them.",
  InterfaceNotMigratable:
    "An interface has the pod's own address, which stays behind, or a vlan's MAC address, which is the node's, or came while the machine ran; the message names it. Use masquerade or a multus network of type bridge or macvlan, or restart the machine.",
  LauncherNotMigratable: "The launcher cannot move the machine; the message has its words, and what to do.",
  LauncherOutdated:
    "Typevisor was upgraded, and the machine goes on in the launcher that it was started in; move or restart it when it suits.",
  SpecChanged: "The spec differs from what the machine runs with; delete its pod to restart it with the new spec.",

  // Live migration: of the machine that moves, and of VirtualMachineMigrations.
  Migrating: "The machine is moving to another pod; the message says how far that is.",
  MigrationPending: "The migration waits for its turn, or for its machine; the message says for what.",
  MigrationPreparing: "The pod that the machine moves to is being started; the message says what it waits for.",
  MigrationHandingOver: "The guest stands still, or it is being found out which of its two pods it goes on in.",
  MigrationFinishing: "The machine goes on in its new pod, and the old one is ending.",
  MigrationCancelling: "The migration is being taken back.",
  MigrationSucceeded: "The machine has moved.",
  MigrationCancelled: "The migration was deleted, or its machine stopped, before the machine had moved.",
  MigrationFailed:
    "The machine has not moved and runs where it was; the message says why. Create another migration to try again.",
  MigrationLost:
    "Both pods of a machine that moved ended in the middle of the hand-over; spec.runStrategy says whether it starts afresh.",
  MachineNotFound:
    "There is no VirtualMachine of that name in the namespace of the migration; correct virtualMachineName.",
  MachineNotRunning: "Only a machine that runs can move, and this one does not.",
  NotMigratable: "The machine cannot move while it runs; its condition Migratable says why.",
  TargetInvalid: "The migration names a node that the machine cannot move to; correct spec.target.",
  TargetClaimInvalid:
    "The migration names a claim or a disk in spec.targetClaims that cannot be used; the message says why. Create another migration.",
  DiskMoved: "A disk is on the claim that a migration moved it to, while spec.disks may name the one before.",
  DiskUndecided:
    "A migration that copied disks to other claims was lost with both pods, and nobody knows whether the guest ran on those. The machine does not start until somebody says which ones count; the message says how.",
  TargetNotReady: "The pod that the machine was to move to did not come in time; the message says what it waited for.",

  // Disks of a running machine.
  DiskAttaching: "A disk that spec.disks has since the machine runs is on its way; the message says what it waits for.",
  DiskDetaching:
    "The guest was asked to give up a disk that spec.disks has no more. It may take its time; a restart of the machine ends it.",
  DiskNotAttached:
    "A disk cannot be given to the running machine; the message says why. It is tried again, and a restart takes it too.",
  DiskAttached: "The guest has taken a disk that came while it ran.",
  DiskDetached: "The guest has given up a disk while it ran.",

  // Interfaces of a running machine.
  InterfaceAttaching:
    "An interface that spec.interfaces has since the machine runs is on its way; the message says what it waits for.",
  InterfaceDetaching:
    "The guest was asked to give up an interface that spec.interfaces has no more. It may take its time; a restart of the machine ends it.",
  InterfaceNotAttached:
    "An interface cannot be given to the running machine; the message says why. It is tried again, and a restart takes it too.",
  InterfaceAttached: "The guest has an interface that came while it ran.",
  InterfaceDetached: "The guest has given up an interface while it ran.",

  // Imports: what VirtualMachineImages and claims say. The importer's own words first.
  SourceUnreachable: "The server of an import cannot be found, reached or trusted, or does not answer in time.",
  SourceRefused: "The server of an import answers with an error; check the URL and the credentials.",
  SourceIncomplete: "The source of an import ends before it should, or stalls again and again.",
  SourceChanged: "The file at the server of an import became another one in the middle.",
  SourceInvalid: "The source of an import is no disk, or a damaged one; the message says where.",
  SourceInUse: "A machine writes to the claim that is to be copied; stop it first. The import goes on by itself then.",
  ChecksumMismatch: "The file of an import has another checksum than spec says; correct the checksum, or the file.",
  FormatUnsupported:
    "The source of an import is in a format that is not read, needs another file, or is compressed with a window that the import has no memory for: [windows](import.md#windows-of-compressed-files).",
  TargetTooSmall: "The claim of an import is smaller than the disk; delete it and make it larger.",
  TargetFailed: "The volume of an import cannot be written.",
  ScratchFailed: "The node has no room for the qcow2 file of an import.",
  ImporterError: "The importer failed: a defect. Please report it with the log of its pod.",
  ImporterKilled: "The importer's pod ended without a last word: killed, out of memory, or evicted.",
  SourceNotTried: "Nothing is imported from the source yet.",
  Importing: "A disk is being imported into a claim.",
  ImportWaiting: "An import waits for something before it; its message says for what.",
  ImportCompleted: "The disk is in the claim's volume.",
  ImageNotFound:
    "The VirtualMachineImage that a claim names in dataSourceRef does not exist; create it, or correct the name.",

  // Events that are not conditions.
  ClaimCreated: "A PersistentVolumeClaim was made from a template of the machine.",
  ClaimRefused:
    "The API server did not let a PersistentVolumeClaim become as its template says, for example larger where its StorageClass does not allow it.",
  PodCreated: "The machine's pod was created.",
  PodDeletedByOperator: "The operator deleted the pod to stop or replace the machine.",
  GuestRebooted: "The guest rebooted; its pod stays.",
  DrainMigrates: "The pod was to be evicted, and the machine moves to another node first.",
  DrainStops:
    "The pod was evicted though the machine should rather have moved; the message says why it could not. It starts elsewhere.",
  GuestPanicked: "The guest's kernel panicked; look at its console.",
} as const satisfies Record<string, string>;

/** PascalCase, one of the keys of `reasons`. */
export type Reason = keyof typeof reasons;
