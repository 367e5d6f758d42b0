import Testing

@testable import LinuxKernel

@Suite("who uses a device")
struct DeviceUseTests {
  private static let mountinfo = """
    22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
    40 22 43:0 / /srv/data rw,relatime shared:20 - ext4 /dev/nbd0 rw
    41 22 43:0 /sub /srv/data rw,relatime shared:20 - ext4 /dev/nbd0 rw
    42 22 43:1 / /srv/with\\040space\\011tab\\134and\\012line rw - xfs /dev/nbd0p1 rw
    43 22 43:32 / /srv/other rw master:1 propagate_from:2 - ext4 /dev/nbd1 rw
    44 22 0:45 /@home /srv/snapshots rw shared:21 - btrfs /dev/nbd0 rw,subvolid=256
    45 22 0:46 / /srv/tmp rw - tmpfs /dev/nbd0-is-only-a-name rw
    46 22 43:0
    - - - -

    """

  private static func mounts(_ text: String, devices: Set<String>, names: Set<String> = []) -> [String] {
    DeviceUse.parseMounts(text, owners(devices, names)).map(\.point)
  }

  private static func swaps(_ text: String, devices: Set<String>) -> [String] {
    DeviceUse.parseSwaps(text, owners([], devices)).map(\.name)
  }

  private static func owners(_ numbers: Set<String>, _ names: Set<String>) -> DeviceUse.Owners {
    DeviceUse.Owners(
      byNumber: Dictionary(uniqueKeysWithValues: numbers.map { ($0, 0) }),
      byName: Dictionary(uniqueKeysWithValues: names.map { ($0, 0) }))
  }

  @Test("mount points are found by the device's number, once each, their escapes undone")
  func mounts() {
    #expect(Self.mounts(Self.mountinfo, devices: ["43:0"]) == ["/srv/data"])
    #expect(
      Self.mounts(Self.mountinfo, devices: ["43:0", "43:1"])
        == ["/srv/data", "/srv/with space\ttab\\and\nline"])
    #expect(Self.mounts(Self.mountinfo, devices: ["43:99"]) == [])
    #expect(Self.mounts("", devices: ["43:0"]) == [])
  }

  @Test("btrfs has a number of its own, and is found by its source")
  func btrfs() {
    #expect(
      Self.mounts(Self.mountinfo, devices: [], names: ["/dev/nbd0"]) == ["/srv/data", "/srv/snapshots"])
  }

  @Test("what only looks like an escape is left as it is", arguments: ["\\9", "\\400", "\\+12", "\\", "\\08x"])
  func noEscape(text: String) {
    let line = "40 22 43:0 / /srv/\(text) rw - ext4 /dev/nbd0 rw"
    #expect(Self.mounts(line, devices: ["43:0"]) == ["/srv/\(text)"])
  }

  @Test("swap is found by the device's name, below the heading")
  func swaps() {
    let text = """
      Filename                                Type            Size            Used            Priority
      /dev/nbd0p2                             partition       1048572         0               -2
      /dev/nbd12                              partition       1048572         0               -3
      /swap\\040file                           file            1048572         0               -4
      """
    #expect(Self.swaps(text, devices: ["/dev/nbd0", "/dev/nbd0p2"]) == ["/dev/nbd0p2"])
    #expect(Self.swaps(text, devices: ["/dev/nbd1"]) == [])
    #expect(Self.swaps(text, devices: ["/swap file"]) == ["/swap file"])
    #expect(Self.swaps(text, devices: ["Filename"]) == [])
    #expect(Self.swaps("", devices: ["/dev/nbd0"]) == [])
  }

  @Test("mounts, swap and holders of a device and of its partitions are put together")
  func all() throws {
    let directory = try TemporaryDirectory()
    try directory.write("43:0\n", to: "sys/block/nbd0/dev")
    try directory.write("43:1\n", to: "sys/block/nbd0/nbd0p1/dev")
    try directory.write("43:2\n", to: "sys/block/nbd0/nbd0p2/dev")
    try directory.write("", to: "sys/block/nbd0/nbd0p2/holders/dm-3")
    try directory.write("43:32\n", to: "sys/block/nbd1/dev")
    try directory.write(Self.mountinfo, to: "proc/self/mountinfo")
    try directory.write("Filename Type\n/dev/nbd0p1 partition 1 0 -2\n", to: "proc/swaps")
    let uses = DeviceUse.uses(
      ofDevice: 0, sysfs: NBDSysfs(root: "\(directory.path)/sys"), procfs: "\(directory.path)/proc")
    #expect(
      uses.map(\.description) == [
        "mounted on /srv/data", "mounted on /srv/with space\ttab\\and\nline", "mounted on /srv/snapshots",
        "swap on /dev/nbd0p1", "held by /dev/dm-3",
      ])
    #expect(
      DeviceUse.uses(ofDevice: 2, sysfs: NBDSysfs(root: "\(directory.path)/sys"), procfs: "\(directory.path)/proc")
        == [])
  }
}
