// swift-tools-version: 6.2
import PackageDescription

/// One set of settings for every target. `CI=1` makes warnings errors.
let settings: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ] + (Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)])

func module(_ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource]? = nil) -> Target {
  .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: name,
    dependencies: dependencies + [.product(name: "ArgumentParser", package: "swift-argument-parser")],
    swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
  .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

let package = Package(
  name: "nbdattach",
  products: [
    .executable(name: "nbdattachd", targets: ["nbdattachd"]),
    .executable(name: "nbdattach", targets: ["nbdattach"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Values and decisions: no I/O, no clock, no C.
    module("NBDProtocol"),
    module("AttachmentModel", ["NBDProtocol"]),
    module("RelayModel", ["NBDProtocol"]),

    // One outside thing each; C never shows outside.
    .systemLibrary(name: "CLinuxNBD"),
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
    .systemLibrary(name: "CGnuTLS", pkgConfig: "gnutls", providers: [.apt(["libgnutls28-dev"])]),
    .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    module("LinuxKernel", ["CLinuxNBD"]),
    module("TLS", ["AttachmentModel", "CGnuTLS"]),
    module("Systemd", ["CSystemd"]),
    module("Configuration", ["AttachmentModel", "NBDProtocol", "TLS", "CYAML"]),

    // What runs.
    module("Relay", ["RelayModel", "NBDProtocol", "LinuxKernel", "TLS", "CLinuxNBD"]),
    module("Attachment", ["AttachmentModel", "NBDProtocol", "LinuxKernel", "Relay", "RelayModel", "TLS"]),
    module(
      "Control", ["AttachmentModel", "LinuxKernel"],
      resources: [.embedInCode("org.nbdattach.varlink"), .embedInCode("org.varlink.service.varlink")]),
    module(
      "Supervision",
      ["NBDProtocol", "Attachment", "AttachmentModel", "Configuration", "Control", "LinuxKernel", "Relay", "Systemd"]),

    // Programs: wire things together.
    program("nbdattachd", ["Supervision", "Configuration", "Control"]),
    program("nbdattach", ["Attachment", "AttachmentModel", "Configuration", "Control", "NBDProtocol"]),

    // What tests of several modules stand on.
    .target(name: "FakeDriver", dependencies: ["LinuxKernel"], path: "Tests/FakeDriver", swiftSettings: settings),
    .target(
      name: "ForgetfulServer", dependencies: ["AttachmentModel", "LinuxKernel", "NBDProtocol"],
      path: "Tests/ForgetfulServer", swiftSettings: settings),
    .target(name: "CertificateLab", path: "Tests/CertificateLab", swiftSettings: settings),

    // What Tests/Benchmarks/run measures with; in no product that is shipped.
    .executableTarget(name: "nbd-load", path: "Tests/Benchmarks/nbd-load"),
    .executableTarget(name: "nbd-pump", dependencies: ["CGnuTLS"], path: "Tests/Benchmarks/nbd-pump"),
    .executableTarget(
      name: "relay-bench",
      dependencies: [
        "Attachment", "AttachmentModel", "LinuxKernel", "NBDProtocol", "Relay", "RelayModel",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tests/Benchmarks/relay-bench", swiftSettings: settings),
    .executableTarget(
      name: "handshake-bench",
      dependencies: [
        "Attachment", "AttachmentModel", "LinuxKernel",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tests/Benchmarks/handshake-bench", swiftSettings: settings),

    tests("ForgetfulServerTests", ["ForgetfulServer", "Attachment", "AttachmentModel", "LinuxKernel", "NBDProtocol"]),
    tests("NBDProtocolTests", ["NBDProtocol"]),
    tests("AttachmentModelTests", ["AttachmentModel", "NBDProtocol"]),
    tests("RelayModelTests", ["RelayModel", "NBDProtocol"]),
    tests("LinuxKernelTests", ["LinuxKernel"]),
    tests("TLSTests", ["TLS", "AttachmentModel", "CGnuTLS", "CertificateLab", "LinuxKernel", "Relay"]),
    tests("ConfigurationTests", ["Configuration", "AttachmentModel", "CertificateLab", "TLS"]),
    tests("SystemdTests", ["Systemd", "AttachmentModel"]),
    tests("ControlTests", ["Control", "AttachmentModel"]),
    tests(
      "RelayTests",
      [
        "Relay", "RelayModel", "Attachment", "AttachmentModel", "CertificateLab", "ForgetfulServer", "LinuxKernel",
        "NBDProtocol",
      ]),
    tests(
      "AttachmentTests",
      [
        "Attachment", "AttachmentModel", "CGnuTLS", "CertificateLab", "FakeDriver", "ForgetfulServer", "LinuxKernel",
        "NBDProtocol", "Relay", "TLS",
      ]),
    // Depends on the programs, so that they are built before it runs them.
    tests("PackagingTests", ["nbdattach", "nbdattachd", "Control"]),
    tests(
      "SupervisionTests",
      [
        "nbdattach", "nbdattachd", "Attachment", "AttachmentModel", "Control", "FakeDriver", "ForgetfulServer",
        "LinuxKernel", "NBDProtocol", "Relay", "Supervision", "Systemd",
      ]),
  ],
  swiftLanguageModes: [.v6]
)
