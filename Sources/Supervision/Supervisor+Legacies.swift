import Attachment
import AttachmentModel
import Control
import LinuxKernel
import Relay
import Systemd

/// What the relays of one process leave to those of the next.
extension Supervisor {
  /// What a former process has left for that device, among what was kept under its number.
  ///
  /// One that is not there, is another's or can't be read is said, and in its place comes one of which the kernel hears
  /// that data may be lost. What is empty was spent, and what no record names was kept for too long: newer writes were
  /// acknowledged since, so that it must not be sent again.
  func legacy(of record: DeviceRecord, _ files: [OpenFile]) -> Legacy? {
    let name = NetlinkDevice.backend(of: record.spec.name)
    let left = files.filter { !Legacy.isSpent($0) }
    var problem: String?
    for file in left {
      do throws(LegacyError) {
        let legacy = try Legacy(reading: file, of: name)
        if legacy.identifier == record.legacy { return legacy }
        problem = "it is not the one that was left last"
      } catch {
        problem = "\(error)"
      }
    }
    if files.isEmpty, record.legacy != nil { problem = "it is not there" }
    guard let problem else { return nil }
    say(.error, record, "what the former process has left of it can't be sent again (\(problem)): the next flush fails")
    do throws(SystemCallError) { return try Legacy.ofErrors(of: name) } catch {
      say(.error, record, "the next flush can't be made to fail: \(error)")
      return nil
    }
  }

  /// Of devices that are not there any more, or have no relay.
  func dropLegacies(_ legacies: [Int: [OpenFile]]) {
    for (index, files) in legacies {
      for file in files where !Legacy.isSpent(file) {
        let what: String
        do throws(LegacyError) {
          let legacy = try Legacy(reading: file, of: nil)
          let size = "\(sizeText(Int64(clamping: legacy.bytes))) of acknowledged writes"
          what = legacy.count > 0 ? size : "the news that data is lost"
        } catch {
          what = "what the former process has left, of which \(error),"
        }
        log(
          .warning, "/dev/nbd\(index): \(what) could not be passed on, because no attachment has the device any more",
          id: .dataLost, fields: [.device: "/dev/nbd\(index)"])
      }
      _ = keepLegacy(index, nil)
    }
  }

  /// Whether it is kept. The same is not kept twice: there is no moment without it.
  func keep(_ legacy: Legacy, of record: DeviceRecord) -> Bool {
    let name = record.spec.name
    // The service manager lets all go when the service is stopped for good.
    if !isStopping || isHandingOver {
      if entries[name]?.legacy === legacy || keepLegacy(record.index, legacy.file) {
        entries[name]?.legacy = legacy
        entries[name]?.keepsLegacy = true
        return true
      }
    } else {
      forgetLegacy(of: record)
    }
    guard isStopping else { return false }
    if legacy.bytes > 0 { say(.leftUnflushed(bytes: legacy.bytes), record) }
    if legacy.owesErrors { say(.leftUntold, record) }
    return false
  }

  func forgetLegacy(of record: DeviceRecord) {
    guard entries[record.spec.name]?.keepsLegacy == true else { return }
    entries[record.spec.name]?.legacy = nil
    entries[record.spec.name]?.keepsLegacy = false
    _ = keepLegacy(record.index, nil)
  }

  private func say(_ notice: DeviceNotice, _ record: DeviceRecord) {
    let report = AttachmentReport(name: record.spec.name, state: .stopped, since: 0)
    let (priority, sentence, _) = NoticeText.of(notice, report)
    say(priority, record, sentence)
  }

  private func say(_ priority: JournalEntry.Priority, _ record: DeviceRecord, _ sentence: String) {
    log(
      priority, "\(record.spec.name): \(sentence)", id: .dataLost,
      fields: [.attachment: record.spec.name, .device: "/dev/nbd\(record.index)"])
  }
}

extension Supervisor.Entry {
  /// What a relay has left under that number is its own.
  func isRelayed(on index: Int) -> Bool { boundIndex == index && report.datapath == .relay }
}
