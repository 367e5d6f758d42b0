import AttachmentModel
import Glibc
import LinuxKernel

/// What can go wrong between a negotiated link and a usable device, in the operator's words.
extension Failure {
  static func reserved(_ index: Int, by other: String) -> Failure {
    // The other one may be on its way out, as after a reload that swaps two devices.
    Failure(.binding, "/dev/nbd\(index) belongs to attachment \(other)", errnoCode: EBUSY, advice: .retry)
  }

  static func noFreeDevice(count: Int) -> Failure {
    if count == 0 {
      return Failure(
        .binding, "there is no nbd device: the kernel module is not loaded", hint: "modprobe nbd", errnoCode: ENODEV,
        advice: .giveUp)
    }
    return Failure(
      .binding, "all \(count) nbd devices are in use",
      hint: "free one, or load the module with more of them (options nbd nbds_max=\(count * 2))", errnoCode: EBUSY,
      advice: .retry)
  }

  static func missingDevice(_ index: Int, count: Int) -> Failure {
    if count == 0 { return noFreeDevice(count: 0) }
    return Failure(
      .binding, "there is no /dev/nbd\(index): the kernel module made \(count) devices",
      hint: "load it with more of them (options nbd nbds_max=\(index + 1))", errnoCode: ENODEV, advice: .giveUp)
  }

  /// `isOwn`: this attachment had the device until now, and somebody still has it open (drivers/block/nbd.c,
  /// nbd_config_put: the old binding goes when its last opener has gone).
  static func busy(_ index: Int, pid: Int32?, isOwn: Bool) -> Failure {
    if isOwn {
      let uses = DeviceUse.uses(ofDevice: index).map(\.description)
      let who = uses.isEmpty ? "still open in some program" : "still " + uses.joined(separator: ", ")
      return Failure(
        .binding, "/dev/nbd\(index) lost its link while it was in use and is \(who)",
        hint: "the classic kernel interface can bind it again only when that has let go", errnoCode: EBUSY,
        advice: .retry)
    }
    let owner = pid.map { " (set up by \(processName($0)))" } ?? ""
    return Failure(
      .binding, "/dev/nbd\(index) is in use by another program\(owner)",
      hint: "detach it there, or choose another device", errnoCode: EBUSY, advice: .giveUp)
  }

  static func setUp(_ index: Int, _ error: SystemCallError) -> Failure {
    switch error.code {
    case EPERM, EACCES:
      Failure(
        .binding, "/dev/nbd\(index): \(error)", hint: "nbdattachd needs root, or CAP_SYS_ADMIN and the device",
        errnoCode: error.code, advice: .giveUp)
    default:
      Failure(.binding, "/dev/nbd\(index): \(error)", errnoCode: error.code, advice: .retry)
    }
  }

  static func notReleased(_ index: Int?) -> Failure {
    let device = index.map { "/dev/nbd\($0)" } ?? "the device"
    return Failure(
      .detaching, "the kernel does not let go of \(device)", errnoCode: EBUSY, advice: .retry)
  }

  private static func processName(_ pid: Int32) -> String {
    let name = readSmallFile("/proc/\(pid)/comm") ?? "a process that has ended"
    let printable = String(name.unicodeScalars.map { (0x20..<0x7f).contains($0.value) ? Character($0) : "?" })
    return "\(printable), process \(pid)"
  }
}
