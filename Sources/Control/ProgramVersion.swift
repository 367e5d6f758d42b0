/// The version of both programs; the packages read it from here.
package let programVersion = "0.1.0"
